//! What is done to the world, and when: a pure function of the seed, the length and the world's
//! shape.
//!
//! Invariants: every fault that lasts has its end before the plan's end; one host's network suffers
//! one thing at a time; every kind that the length has room for comes at least once; the number of
//! faults is bounded by the length.

use super::seed::Seeded;

/// Something that is done to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `kill -9` of a controller; it is started again as its service manager would.
    ControllerKill,
    /// SIGTERM to a controller.
    ControllerStop,
    /// `kill -9` of an agent.
    AgentKill,
    /// SIGTERM to an agent.
    AgentStop,
    /// `kill -9` of a controller and of every fourth agent in the same moment.
    BothKill,
    /// `kill -9` of PostgreSQL's first process; it is started again.
    PostgresKill,
    /// PostgreSQL stopped as `pg_ctl stop -m fast` does, and started again.
    PostgresRestart,
    /// A host's link is down.
    Cut,
    /// A host loses 30 packets of a hundred, in each direction.
    Loss,
    /// The relay delays, reorders, repeats and drops.
    Storm,
    /// A host's UDP is dropped; TCP passes.
    UdpBlock,
    /// The file system of an agent's state directory is full.
    AgentDiskFull,
    /// The file system of the controller's data directory is full.
    ControllerDiskFull,
    /// An agent stands still (SIGSTOP).
    Freeze,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::ControllerKill,
        Self::ControllerStop,
        Self::AgentKill,
        Self::AgentStop,
        Self::BothKill,
        Self::PostgresKill,
        Self::PostgresRestart,
        Self::Cut,
        Self::Loss,
        Self::Storm,
        Self::UdpBlock,
        Self::AgentDiskFull,
        Self::ControllerDiskFull,
        Self::Freeze,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControllerKill => "controller kill -9",
            Self::ControllerStop => "controller SIGTERM",
            Self::AgentKill => "agent kill -9",
            Self::AgentStop => "agent SIGTERM",
            Self::BothKill => "controller and agents kill -9",
            Self::PostgresKill => "PostgreSQL kill -9",
            Self::PostgresRestart => "PostgreSQL restart",
            Self::Cut => "link cut",
            Self::Loss => "30 % loss",
            Self::Storm => "delay and reordering",
            Self::UdpBlock => "UDP blocked",
            Self::AgentDiskFull => "agent's disk full",
            Self::ControllerDiskFull => "controller's disk full",
            Self::Freeze => "agent frozen",
        }
    }

    /// How often it is drawn, against the others.
    fn weight(self) -> u64 {
        match self {
            Self::AgentKill => 16,
            Self::Cut | Self::Loss => 6,
            Self::UdpBlock | Self::Storm => 4,
            Self::AgentStop | Self::Freeze => 3,
            Self::ControllerKill | Self::PostgresKill => 2,
            Self::ControllerStop
            | Self::BothKill
            | Self::PostgresRestart
            | Self::AgentDiskFull
            | Self::ControllerDiskFull => 1,
        }
    }

    /// How long it lasts, in milliseconds; nothing for what is over in a moment.
    fn lasts_ms(self) -> Option<(u64, u64)> {
        match self {
            Self::ControllerKill
            | Self::ControllerStop
            | Self::AgentKill
            | Self::AgentStop
            | Self::BothKill => None,
            Self::PostgresKill | Self::PostgresRestart => Some((300, 2_500)),
            Self::Cut | Self::UdpBlock => Some((2_000, 8_000)),
            Self::Loss => Some((5_000, 15_000)),
            Self::Storm => Some((8_000, 20_000)),
            Self::AgentDiskFull => Some((3_000, 6_000)),
            Self::ControllerDiskFull => Some((2_000, 4_000)),
            Self::Freeze => Some((1_000, 6_000)),
        }
    }

    /// Whether it strikes one host, and which of the host's things suffers.
    fn of_host(self) -> Option<Part> {
        match self {
            Self::Cut | Self::Loss | Self::UdpBlock => Some(Part::Network),
            Self::AgentKill | Self::AgentStop | Self::Freeze => Some(Part::Agent),
            Self::AgentDiskFull => Some(Part::Disk),
            Self::ControllerKill
            | Self::ControllerStop
            | Self::BothKill
            | Self::PostgresKill
            | Self::PostgresRestart
            | Self::Storm
            | Self::ControllerDiskFull => None,
        }
    }
}

/// What of a host a fault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Network,
    Agent,
    Disk,
}

/// The shape of the world a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub hosts: usize,
    pub controllers: usize,
    /// The first so many hosts have a small state directory of their own.
    pub small_disks: usize,
    /// PostgreSQL; without it the controller's database is a file on a small disk.
    pub postgres: bool,
    /// How long a host's certificate is good for, in seconds.
    pub certificate_secs: u64,
}

impl Shape {
    /// How many things of the world a fault may strike.
    fn targets(&self, kind: Kind) -> usize {
        match kind {
            Kind::ControllerKill | Kind::ControllerStop | Kind::BothKill => self.controllers,
            Kind::AgentKill
            | Kind::AgentStop
            | Kind::Cut
            | Kind::Loss
            | Kind::UdpBlock
            | Kind::Freeze => self.hosts,
            Kind::AgentDiskFull => self.small_disks,
            Kind::PostgresKill | Kind::PostgresRestart | Kind::Storm | Kind::ControllerDiskFull => {
                1
            }
        }
    }

    fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::PostgresKill | Kind::PostgresRestart => self.postgres,
            Kind::ControllerDiskFull => !self.postgres,
            Kind::AgentDiskFull => self.small_disks > 0,
            Kind::ControllerKill
            | Kind::ControllerStop
            | Kind::AgentKill
            | Kind::AgentStop
            | Kind::BothKill
            | Kind::Cut
            | Kind::Loss
            | Kind::Storm
            | Kind::UdpBlock
            | Kind::Freeze => true,
        }
    }
}

/// A fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub kind: Kind,
    /// A host's or a controller's number, as the kind has it; 0 where there is one of it.
    pub target: usize,
    /// From the plan's start.
    pub at_ms: u64,
    /// The same as `at_ms` for what is over in a moment.
    pub until_ms: u64,
}

/// Milliseconds between two faults, on average.
const PACE_MS: u64 = 1_000;
/// Milliseconds at the end without a new fault.
const CALM_MS: u64 = 2_000;
/// Milliseconds of a cut that no session survives: the idle time-out is 45 s.
pub const LONG_CUT_MS: u64 = 50_000;
/// Milliseconds between two faults of one controller or of the database, in a long run: agents wait
/// longer each time, and what waits is not tried.
const APART_MS_MAX: u64 = 10_000;
/// Moments tried for one fault.
const PLACES_TRIED: usize = 200;
/// Times a host's disk is full, at most: a job refused for it waits a minute, then five.
const DISK_FULL_MAX: usize = 1;

/// The plan of a seed.
#[must_use]
pub fn plan(seed: u64, secs: u64, shape: &Shape) -> Vec<Planned> {
    let mut draft = Draft { seeded: Seeded::new(seed), shape, end_ms: secs * 1000, made: vec![] };
    draft.long_ones();
    let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| shape.has(*kind)).collect();
    draft.seeded.shuffle(&mut kinds);
    // What lasts longest is hardest to find room for.
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.lasts_ms().map_or(0, |(_, most)| most)));
    for kind in kinds.clone() {
        draft.place(kind);
    }
    let weights: u64 = kinds.iter().map(|kind| kind.weight()).sum();
    for _ in 0..(secs * 1000 / PACE_MS) {
        let mut drawn = draft.seeded.range(0, weights);
        let heavy = |kind: &&Kind| {
            let found = drawn < kind.weight();
            drawn = drawn.saturating_sub(kind.weight());
            found
        };
        if let Some(kind) = kinds.iter().find(heavy) {
            draft.place(*kind);
        }
    }
    let mut made = draft.made;
    made.sort_by_key(|planned| planned.at_ms);
    made
}

struct Draft<'a> {
    seeded: Seeded,
    shape: &'a Shape,
    end_ms: u64,
    made: Vec<Planned>,
}

impl Draft<'_> {
    /// What only a long run has room for: a cut no session survives, and an agent that stands still
    /// until its certificate has ended.
    fn long_ones(&mut self) {
        if self.end_ms >= LONG_CUT_MS + 4 * CALM_MS {
            let target = self.shape.hosts.saturating_sub(1);
            let at_ms = self.seeded.range(CALM_MS, self.end_ms - LONG_CUT_MS - CALM_MS);
            self.push(Kind::Cut, target, at_ms, LONG_CUT_MS);
        }
        let ended_ms = (self.shape.certificate_secs + 3) * 1000;
        if self.end_ms >= ended_ms + 4 * CALM_MS {
            let target = self.shape.hosts.saturating_sub(2);
            let at_ms = self.seeded.range(CALM_MS, self.end_ms - ended_ms - CALM_MS);
            self.push(Kind::Freeze, target, at_ms, ended_ms);
        }
    }

    /// Puts one fault where it collides with none; leaves it out where there is no such place.
    fn place(&mut self, kind: Kind) {
        for _ in 0..PLACES_TRIED {
            let lasts_ms = match kind.lasts_ms() {
                Some((least, most)) => self.seeded.range(least, most),
                None => 0,
            };
            let latest = self.end_ms.saturating_sub(lasts_ms + CALM_MS);
            if latest == 0 {
                return;
            }
            let target = self.seeded.place(self.shape.targets(kind));
            let at_ms = self.seeded.range(0, latest);
            let planned = Planned { kind, target, at_ms, until_ms: at_ms + lasts_ms };
            if self.made.iter().all(|other| !collide(&planned, other, self.end_ms))
                && self.disk_may_fill(&planned)
            {
                self.made.push(planned);
                return;
            }
        }
    }

    fn disk_may_fill(&self, planned: &Planned) -> bool {
        let same = |other: &&Planned| other.kind == planned.kind && other.target == planned.target;
        planned.kind != Kind::AgentDiskFull || self.made.iter().filter(same).count() < DISK_FULL_MAX
    }

    fn push(&mut self, kind: Kind, target: usize, at_ms: u64, lasts_ms: u64) {
        self.made.push(Planned { kind, target, at_ms, until_ms: at_ms + lasts_ms });
    }
}

fn collide(one: &Planned, other: &Planned, end_ms: u64) -> bool {
    let apart = |margin_ms: u64| {
        one.until_ms + margin_ms < other.at_ms || other.until_ms + margin_ms < one.at_ms
    };
    match (one.kind.of_host(), other.kind.of_host()) {
        (Some(a), Some(b)) => one.target == other.target && a == b && !apart(500),
        // Of what there is one, one fault at a time, and time to work in between.
        (None, None) => match (one.kind, other.kind) {
            (Kind::Storm, Kind::Storm) => !apart(500),
            (Kind::Storm, _) | (_, Kind::Storm) => false,
            _ => !apart((end_ms / 12).min(APART_MS_MAX)),
        },
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(postgres: bool) -> Shape {
        Shape { hosts: 20, controllers: 1, small_disks: 2, postgres, certificate_secs: 24 }
    }

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another_one() {
        assert_eq!(plan(1, 60, &shape(true)), plan(1, 60, &shape(true)));
        assert_ne!(plan(1, 60, &shape(true)), plan(2, 60, &shape(true)));
    }

    #[test]
    fn every_kind_comes_and_every_fault_ends_in_time() {
        for seed in 0..400 {
            // The shares of a run of two minutes, and of one of one.
            let postgres = seed % 2 == 0;
            let secs = [72, 48, 36, 24][usize::try_from(seed % 4).unwrap()];
            let shape = shape(postgres);
            let made = plan(seed, secs, &shape);
            let most = usize::try_from(secs).unwrap() + 16;
            assert!(made.len() > 16 && made.len() <= most, "{} faults", made.len());
            for kind in Kind::ALL.into_iter().filter(|kind| shape.has(*kind)) {
                let comes = made.iter().any(|planned| planned.kind == kind);
                assert!(comes, "seed {seed}: no {}", kind.as_str());
            }
            assert!(made.iter().all(|planned| shape.has(planned.kind)));
            assert!(made.iter().all(|planned| planned.until_ms <= secs * 1000), "{made:?}");
            assert!(made.iter().all(|planned| planned.target < shape.hosts));
            for (place, one) in made.iter().enumerate() {
                let mut others = made[place + 1..].iter();
                assert!(
                    others.all(|other| !collide(one, other, secs * 1000)),
                    "seed {seed}: {one:?}"
                );
            }
        }
    }

    #[test]
    fn a_long_run_outlasts_idle_time_out_and_certificate() {
        let made = plan(3, 120, &shape(true));
        let longest = |kind| {
            let of_kind = made.iter().filter(|planned| planned.kind == kind);
            of_kind.map(|planned| planned.until_ms - planned.at_ms).max()
        };
        assert_eq!(longest(Kind::Cut), Some(LONG_CUT_MS));
        assert_eq!(longest(Kind::Freeze), Some(27_000));
    }
}
