//! What a seed has in store: how big the world is, and how often what goes wrong.

use super::dice::Dice;

/// How often each fault comes, in a thousand chances to.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    pub(super) agent_crash: u64,
    pub(super) power_cut: u64,
    pub(super) controller_crash: u64,
    pub(super) restore: u64,
    pub(super) cut: u64,
    pub(super) outage: u64,
    pub(super) disk: u64,
    pub(super) clock: u64,
    pub(super) clone: u64,
    /// Before each single thing that a process is about to do.
    pub(super) at_boundary: u64,
    /// Of frames that take long.
    pub(super) slow: u64,
}

/// A run's measures.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) hosts: usize,
    pub(super) environments: usize,
    pub(super) requests: u64,
    /// How long things go wrong, in milliseconds.
    pub(super) chaos_ms: u64,
    /// Milliseconds between two chances of a fault, at most.
    pub(super) fault_gap_ms: u64,
    pub(super) rates: Rates,
    /// Agents of the protocol's version before this one, in a thousand.
    pub(super) old_agents: u64,
    /// The controller is of the version before this one.
    pub(super) old_controller: bool,
    /// Jobs that cut their agent off each time, in a thousand.
    pub(super) poison: u64,
    /// Hosts that are revoked some time, in a thousand requests.
    pub(super) revoke: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let hosts = [1, 1, 2, 2, 3][dice.place(5)];
        let mut rate = |often: u64, most: u64| {
            if dice.permille(often) { dice.between(most / 8 + 1, most) } else { 0 }
        };
        let rates = Rates {
            agent_crash: rate(600, 200),
            power_cut: rate(500, 200),
            controller_crash: rate(500, 150),
            restore: rate(250, 150),
            cut: rate(700, 400),
            outage: rate(200, 60),
            disk: rate(400, 200),
            clock: rate(300, 100),
            clone: rate(80, 60),
            at_boundary: rate(400, 12),
            slow: rate(500, 200),
        };
        Self {
            hosts,
            environments: 1 + dice.place(2),
            requests: dice.between(2, 10),
            chaos_ms: dice.between(20_000, 240_000),
            fault_gap_ms: dice.between(2_000, 25_000),
            rates,
            old_agents: if dice.permille(200) { 500 } else { 0 },
            old_controller: dice.permille(100),
            poison: if dice.permille(300) { dice.between(20, 200) } else { 0 },
            revoke: if dice.permille(80) { 60 } else { 0 },
        }
    }
}
