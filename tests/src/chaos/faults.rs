//! Carries out the plan, and keeps everything running meanwhile.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use super::net::{BRIDGE, Filter};
use super::plan::{Kind, Planned};
use super::service::Exit;
use super::world::World;
use crate::bench::clock::{Watch, wall_secs};
use crate::servers::ServerError;

/// Milliseconds between two looks.
const LOOK_MS: u64 = 20;
/// Every so many-th agent dies together with its controller.
const DIE_TOGETHER: usize = 4;
/// How long a TCP connection may take where UDP alone is blocked.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// A fault that was.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    /// A host's or a controller's number, as the kind has it.
    pub target: usize,
    /// Seconds since the Unix epoch.
    pub from_secs: f64,
    /// The same; the future while it lasts.
    pub until_secs: f64,
}

/// What was done and seen.
#[derive(Debug, Default)]
pub struct Done {
    pub faults: Vec<Fault>,
    pub exits: Vec<Exit>,
    /// What no fault excuses.
    pub wrong: Vec<String>,
    /// TCP connections made while UDP was blocked.
    pub tcp_passed: usize,
}

/// The driver of a plan.
#[derive(Debug)]
pub struct Driver<'a> {
    world: &'a mut World,
    plan: &'a [Planned],
    /// Milliseconds, whether it ends then, and the place in the plan.
    moments: Vec<(u64, bool, usize)>,
    /// Where the record of a fault of the plan is.
    records: Vec<Option<usize>>,
    listener: TcpListener,
    pub done: Done,
}

impl<'a> Driver<'a> {
    /// A driver of that plan.
    ///
    /// # Errors
    /// When there is no TCP port to try.
    pub fn new(world: &'a mut World, plan: &'a [Planned]) -> Result<Self, ServerError> {
        let listener = TcpListener::bind((BRIDGE, 0))
            .map_err(|error| ServerError::new("listening on the bridge", error))?;
        let begins = plan.iter().enumerate().map(|(place, fault)| (fault.at_ms, false, place));
        let lasting = plan.iter().enumerate().filter(|(_, fault)| fault.until_ms > fault.at_ms);
        let ends = lasting.map(|(place, fault)| (fault.until_ms, true, place));
        let mut moments: Vec<_> = begins.chain(ends).collect();
        moments.sort_unstable();
        let records = vec![None; plan.len()];
        Ok(Self { world, plan, moments, records, listener, done: Done::default() })
    }

    /// Carries everything out.
    ///
    /// # Errors
    /// When a fault cannot be made or ended: the run says nothing then.
    pub fn run(&mut self, secs: u64) -> Result<(), ServerError> {
        let watch = Watch::start();
        let moments = std::mem::take(&mut self.moments);
        let mut waiting = moments.into_iter().peekable();
        while watch.elapsed() < Duration::from_secs(secs) {
            let now_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
            while let Some((_, ends, place)) = waiting.next_if(|(at_ms, ..)| *at_ms <= now_ms) {
                match ends {
                    false => self.begin(place)?,
                    true => self.end(place)?,
                }
            }
            self.tend()?;
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
        for (_, ends, place) in waiting {
            if ends {
                self.end(place)?;
            }
        }
        Ok(())
    }

    /// Starts again what has ended.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn tend(&mut self) -> Result<(), ServerError> {
        self.done.exits.extend(self.world.tend()?);
        Ok(())
    }

    fn begin(&mut self, place: usize) -> Result<(), ServerError> {
        let Planned { kind, target, at_ms, until_ms } = self.plan[place];
        let now = wall_secs();
        let until_secs = if until_ms > at_ms { f64::INFINITY } else { now };
        self.records[place] = Some(self.done.faults.len());
        self.done.faults.push(Fault { kind, target, from_secs: now, until_secs });
        let world = &mut *self.world;
        match kind {
            Kind::ControllerKill => world.controllers[target].service.kill(),
            Kind::ControllerStop => world.controllers[target].service.tell_to_stop(),
            Kind::AgentKill => world.hosts[target].agent.kill(),
            Kind::AgentStop => world.hosts[target].agent.tell_to_stop(),
            Kind::BothKill => {
                world.controllers[target].service.kill();
                world.hosts.iter_mut().step_by(DIE_TOGETHER).for_each(|host| host.agent.kill());
            }
            Kind::PostgresKill => postgres(world)?.kill()?,
            Kind::PostgresRestart => postgres(world)?.halt()?,
            Kind::Cut => world.hosts[target].net.link_up(false)?,
            Kind::Loss => world.hosts[target].net.filter(Filter::Loss)?,
            Kind::UdpBlock => {
                world.hosts[target].net.filter(Filter::Udp)?;
                self.tcp_passes(target)?;
            }
            Kind::Storm => world.relay.storm(true),
            Kind::AgentDiskFull => disk(world.hosts[target].disk.as_ref())?.fill()?,
            Kind::ControllerDiskFull => disk(world.disk.as_ref())?.fill()?,
            Kind::Freeze => world.hosts[target].agent.signal(Signal::STOP),
        }
        Ok(())
    }

    fn end(&mut self, place: usize) -> Result<(), ServerError> {
        let Planned { kind, target, .. } = self.plan[place];
        let world = &mut *self.world;
        match kind {
            Kind::PostgresKill | Kind::PostgresRestart => postgres(world)?.run()?,
            Kind::Cut => world.hosts[target].net.link_up(true)?,
            Kind::Loss | Kind::UdpBlock => world.hosts[target].net.unfilter()?,
            Kind::Storm => world.relay.storm(false),
            Kind::AgentDiskFull => disk(world.hosts[target].disk.as_ref())?.free()?,
            Kind::ControllerDiskFull => disk(world.disk.as_ref())?.free()?,
            Kind::Freeze => world.hosts[target].agent.signal(Signal::CONT),
            Kind::ControllerKill
            | Kind::ControllerStop
            | Kind::AgentKill
            | Kind::AgentStop
            | Kind::BothKill => {}
        }
        if let Some(record) = self.records[place] {
            self.done.faults[record].until_secs = wall_secs();
        }
        Ok(())
    }

    /// Where UDP alone is blocked, TCP passes: else the fault would be another one.
    fn tcp_passes(&mut self, target: usize) -> Result<(), ServerError> {
        let at = self.listener.local_addr();
        let at: SocketAddr = at.map_err(|error| ServerError::new("asking for a port", error))?;
        let dialled =
            self.world.hosts[target].net.within(|| TcpStream::connect_timeout(&at, TCP_TIMEOUT))?;
        match dialled {
            Ok(_) => self.done.tcp_passed += 1,
            // A cut of the link may not overlap with it: the plan keeps them apart.
            Err(error) => self.done.wrong.push(format!("TCP does not pass: {error}")),
        }
        Ok(())
    }

    /// The world, between two faults.
    #[must_use]
    pub fn world(&self) -> &World {
        self.world
    }
}

fn postgres(world: &mut World) -> Result<&mut crate::servers::postgres::Postgres, ServerError> {
    let none = || ServerError("the plan stops a PostgreSQL that is not there".to_owned());
    world.postgres.as_mut().ok_or_else(none)
}

fn disk(disk: Option<&super::disk::Disk>) -> Result<&super::disk::Disk, ServerError> {
    disk.ok_or_else(|| ServerError("the plan fills a disk that is not there".to_owned()))
}
