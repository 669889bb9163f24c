//! How a run begins: an empty database with a site, its hosts and their environments, and an agent
//! on each host.

use std::sync::atomic::{AtomicU64, Ordering};

use hostler_controller::domain::{
    CacheFlag, Change, Decision, Environment, EnvironmentState, Scope, Site,
};
use hostler_controller::store::MemoryDatabase;
use hostler_controller::templates::Templates;
use hostler_protocol::id::{EnvironmentId, HostId, SiteId};
use hostler_protocol::job::{
    AppKind, EnvironmentDoc, FastcgiDoc, HealthDoc, KEY_FORMAT_DEFAULT, NginxDoc, RedisDoc,
};
use hostler_protocol::{PROTOCOL_VERSION, VERSION_RENEWAL};

use super::Options;
use super::agent::Agent;
use super::controller::Controller;
use super::dice::Dice;
use super::event::Event;
use super::mutation::Mutation;
use super::plan::Plan;
use super::report::Report;
use super::world::{Host, START, World};
use crate::rows;

type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Databases of this process have names of their own.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What every run begins with: a database with the schema and nothing in it, and the templates.
pub(super) struct Base {
    database: MemoryDatabase,
    templates: Templates,
}

impl Base {
    pub(super) async fn new() -> Res<Self> {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let database = MemoryDatabase::create(&format!("base{number}")).await?;
        database.open().await?.close().await;
        Ok(Self { database, templates: Templates::shipped()? })
    }
}

/// Runs one seed to its end.
pub(super) async fn simulate(base: &Base, seed: u64, options: Options) -> Res<Report> {
    let mut dice = Dice::new(seed);
    let plan = Plan::draw(&mut dice);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let name = format!("sim{number}");
    let database = base.database.copy(&name).await?;
    let (hosts, changes) = rows_of(&plan);
    let store = database.open().await?;
    let decide =
        move |_: &_| Ok(Decision { changes: changes.clone(), events: Vec::new(), reply: () });
    store.transact("simulated_rows", Scope::default(), decide).await?;
    store.close().await;
    let controller = Controller::new(database, base.templates.clone(), name);
    let mut world = World::new(seed, dice, plan, controller, options.mutation, options.trace);
    world.hosts = hosts;
    for host in 0..world.hosts.len() {
        let old = world.dice.permille(world.plan.old_agents);
        let version_max = if old { VERSION_RENEWAL - 1 } else { PROTOCOL_VERSION };
        let lies = options.mutation == Some(Mutation::SyncsLie);
        world.agents.push(Agent::new(host, version_max, lies));
        let wait_ms = world.dice.below(2_000);
        world.after(wait_ms, Event::AgentStarts(host));
    }
    let (chaos_ms, first_ms) = (world.plan.chaos_ms, world.dice.below(3_000));
    world.after(0, Event::ControllerStarts);
    world.after(first_ms, Event::Operator);
    world.after(first_ms, Event::Fault);
    world.after(chaos_ms, Event::Heals);
    let judged = world.run().await;
    world.report.violation = judged.err();
    if let Some(running) = world.controller.process.take() {
        running.app.store.close().await;
    }
    Ok(world.report)
}

fn rows_of(plan: &Plan) -> (Vec<Host>, Vec<Change>) {
    let site = Site { id: SiteId::from_parts(1, [1; 10]), name: "site".into(), created_at: START };
    let mut changes = vec![Change::InsertSite(site.clone())];
    let mut hosts = Vec::new();
    for number in 1..=plan.hosts {
        let byte = u8::try_from(number).unwrap_or(u8::MAX);
        let id = HostId::from_parts(1, [byte; 10]);
        let key_sha256 = format!("{number:064x}");
        let row = rows::host(id.clone(), &format!("host-{number}.test"), &key_sha256, START);
        changes.push(Change::InsertHost(Box::new(row)));
        let mut environments = Vec::new();
        for place in 1..=plan.environments {
            let mut bytes = [byte; 10];
            bytes[9] = u8::try_from(place).unwrap_or(u8::MAX);
            let one = environment(EnvironmentId::from_parts(1, bytes), &site, &id, number, place);
            environments.push(one.id.clone());
            changes.push(Change::InsertEnvironment(Box::new(one)));
        }
        hosts.push(Host {
            id,
            key_sha256,
            environments,
            revoked: false,
            cut_until_ms: 0,
            cloned: false,
        });
    }
    (hosts, changes)
}

fn environment(
    id: EnvironmentId,
    site: &Site,
    host: &HostId,
    number: usize,
    place: usize,
) -> Environment {
    let name = format!("e{number}-{place}");
    let flag = CacheFlag { desired: true, applied: None, applied_at: None, last_error: None };
    Environment {
        id: id.clone(),
        site_id: site.id.clone(),
        host_id: host.clone(),
        state: EnvironmentState::Active,
        doc: EnvironmentDoc {
            id,
            site: site.name.clone(),
            name: name.clone(),
            domain: format!("{name}.test"),
            kind: AppKind::Php,
            docroot: format!("/srv/{name}"),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: format!("/etc/nginx/hostler/{name}/http.conf"),
                server_file: format!("/etc/nginx/hostler/{name}/server.conf"),
                location_file: format!("/etc/nginx/hostler/{name}/location.conf"),
                probe_origin: "http://127.0.0.1:80".to_owned(),
            },
            fastcgi: Some(FastcgiDoc {
                cache_dir: format!("/var/cache/nginx/{name}"),
                key_format: KEY_FORMAT_DEFAULT.to_owned(),
                zone_mib: 1,
                size_mib_max: 16,
                inactive_secs: 600,
                valid_secs: 600,
            }),
            redis: Some(RedisDoc {
                url: "redis://127.0.0.1:6379/0".to_owned(),
                password_file: None,
                prefix: format!("{name}:"),
                switch_file: Some(format!("/srv/{name}/redis.json")),
            }),
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1_000 },
            executor: None,
        },
        fastcgi: Some(flag.clone()),
        redis: Some(flag),
        labels: std::collections::BTreeMap::new(),
        version: 1,
        created_at: START,
        updated_at: START,
    }
}
