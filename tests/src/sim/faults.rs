//! What goes wrong, and how it is mended in the end.

use std::io::ErrorKind;

use hostler_agent::clock::Clock;
use hostler_agent::journal::disk::Wrong;

use super::agent::Agent;
use super::event::{Boot, Conn, Event};
use super::mutation::Mutation;
use super::world::{START, Step, World};

const DAY_US: i64 = 86_400_000_000;

impl World {
    /// A chance for each kind of fault.
    pub(super) async fn fault(&mut self) -> Step {
        if self.healed {
            return Ok(());
        }
        let rates = self.plan.rates.clone();
        let agent = self.dice.place(self.agents.len());
        if self.dice.permille(rates.agent_crash) {
            self.crash_agent(agent, false);
        }
        if self.dice.permille(rates.power_cut) {
            self.crash_agent(agent, true);
        }
        if self.dice.permille(rates.controller_crash) {
            self.crash_controller(false).await?;
        }
        if self.dice.permille(rates.cut) {
            self.cut_one();
        }
        if self.dice.permille(rates.outage) {
            self.outage();
        }
        if self.dice.permille(rates.disk) {
            self.disk_fault(agent);
        }
        if self.dice.permille(rates.clock) {
            self.clock_jump(agent);
        }
        if self.dice.permille(rates.clone) {
            self.clone_agent(agent);
        }
        if self.dice.permille(rates.restore) {
            if self.controller.backup.is_none() || self.dice.permille(300) {
                self.back_up().await?;
            } else {
                self.crash_controller(true).await?;
            }
        }
        let wait_ms = self.dice.between(1, self.plan.fault_gap_ms);
        self.after(wait_ms, Event::Fault);
        Ok(())
    }

    /// A machine is copied while its agent runs: identity, journal and all.
    fn clone_agent(&mut self, index: usize) {
        let original = &self.agents[index];
        let host = original.host;
        if original.process.is_none() || self.hosts[host].cloned || self.hosts[host].revoked {
            return;
        }
        let mut copy = Agent::new(host, original.version_max, false);
        copy.disk = original.disk.after_kill();
        copy.promised = original.promised.clone();
        copy.clock = Clock::manual(original.clock.now_us());
        self.hosts[host].cloned = true;
        self.agents.push(copy);
        let place = self.agents.len() - 1;
        self.count("agent cloned");
        self.note(format_args!("agent {index} is copied, as agent {place}"));
        self.after(1_000, Event::AgentStarts(place));
    }

    fn cut_one(&mut self) {
        let conns: Vec<Conn> = self.connections.keys().copied().collect();
        if let Some(conn) = self.dice.pick(&conns).copied() {
            self.cut(conn);
        }
    }

    /// A host cannot be reached: for a minute, for an hour, for days.
    fn outage(&mut self) {
        let host = self.dice.place(self.hosts.len());
        let most_ms = [60_000, 600_000, 3_600_000, 2 * 86_400_000][self.dice.place(4)];
        let lasts_ms = self.dice.between(1_000, most_ms);
        self.count("host unreachable");
        self.cut_off(host, lasts_ms);
    }

    pub(super) fn cut_off(&mut self, host: usize, lasts_ms: u64) {
        self.note(format_args!("host {host} is unreachable for {lasts_ms} ms"));
        self.hosts[host].cut_until_ms = self.now_ms + lasts_ms;
        let conns: Vec<Conn> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.host == host)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            self.cut(conn);
        }
    }

    fn disk_fault(&mut self, agent: usize) {
        if self.mutation == Some(Mutation::SyncsLie) {
            return;
        }
        let kind = if self.dice.permille(500) { ErrorKind::StorageFull } else { ErrorKind::Other };
        let wrong = if self.dice.permille(400) {
            Wrong::Syncs(kind)
        } else {
            Wrong::From(self.dice.between(1, 12), kind)
        };
        self.agents[agent].disk.set(wrong);
        self.count(if kind == ErrorKind::StorageFull { "disk full" } else { "disk error" });
        self.note(format_args!("disk of agent {agent}: {wrong:?}"));
        let wait_ms = self.dice.between(100, 60_000);
        self.after(wait_ms, Event::DiskMends(agent));
    }

    fn clock_jump(&mut self, agent: usize) {
        let by_us = i64::try_from(self.dice.below(2 * DAY_US.unsigned_abs())).unwrap_or(0) - DAY_US;
        let at_controller = self.dice.permille(400);
        if at_controller {
            self.controller.clock.jump_us(by_us);
        } else {
            self.agents[agent].clock.jump_us(by_us);
        }
        self.count("clock jump");
        self.note(format_args!("clock jumps by {by_us}, of the controller {at_controller}"));
    }

    /// Everything is mended: who is down is started, who is cut off is reachable, clocks are right.
    pub(super) fn heals(&mut self) -> Step {
        self.note(format_args!("everything is mended"));
        self.healed = true;
        let true_us = START.0 + i64::try_from(self.now_ms).unwrap_or(0) * 1000;
        self.controller.clock.jump_us(true_us - self.controller.clock.now().0);
        for agent in 0..self.agents.len() {
            let by_us = true_us - self.agents[agent].clock.now_us();
            self.agents[agent].clock.jump_us(by_us);
            self.disk_mends(agent);
            self.after(1_000, Event::AgentStarts(agent));
        }
        for host in &mut self.hosts {
            host.cut_until_ms = 0;
        }
        for agent in 0..self.agents.len() {
            let boot = Boot { agent, run: self.agents[agent].run };
            self.after(2_000, Event::Dials(boot));
        }
        self.after(1_000, Event::ControllerStarts);
        Ok(())
    }
}
