//! Work for the queue: hosts with environments, and workers that queue, claim and settle jobs of
//! their own hosts.

use std::sync::Arc;
use std::time::Duration;

use hostler_controller::domain::decide::job::{JobInput, new_job};
use hostler_controller::domain::{
    Change, Decision, Environment, EnvironmentState, Host, JobState, Micros, NewJob, Scope, Site,
    Template,
};
use hostler_controller::store::{AttemptRef, ClaimHost, SettleAnswer, Settlement, Store};
use hostler_controller::templates::Templates;
use hostler_protocol::id::{ControllerId, EnvironmentId, HostId, JobId, SiteId};
use hostler_protocol::job::{
    AppKind, EnvironmentDoc, HealthDoc, JobType, NginxDoc, Outcome, OutcomeState, RedisDoc,
};
use serde_json::json;

use super::Res;
use super::clock::Watch;
use crate::rows;

/// Workers at once.
pub const WORKERS: usize = 8;
/// Hosts of one worker, and environments (and job slots) of one host.
const HOSTS: usize = 25;
const ENVIRONMENTS: usize = 4;
/// Jobs in a full batch: one for each environment of a worker, so that no lane is asked for twice.
pub const BATCH: usize = HOSTS * ENVIRONMENTS;

const NOW: Micros = Micros(1_700_000_000_000_000);

/// Seconds each verb took, call by call.
#[derive(Debug, Default)]
pub struct Took {
    pub enqueue: Vec<f64>,
    pub claim: Vec<f64>,
    pub settle: Vec<f64>,
}

impl Took {
    fn add(&mut self, other: Self) {
        self.enqueue.extend(other.enqueue);
        self.claim.extend(other.claim);
        self.settle.extend(other.settle);
    }
}

/// One worker's hosts.
#[derive(Debug, Clone)]
pub struct Worker {
    number: usize,
    hosts: Vec<ClaimHost>,
    template: Arc<Template>,
}

fn id_bytes(worker: usize, host: usize, environment: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    for (place, number) in [worker, host, environment].into_iter().enumerate() {
        bytes[place] = u8::try_from(number).unwrap_or(u8::MAX);
    }
    bytes
}

fn host_id(worker: usize, host: usize) -> HostId {
    HostId::from_parts(1, id_bytes(worker, host, 0))
}

fn environment_id(worker: usize, host: usize, environment: usize) -> EnvironmentId {
    EnvironmentId::from_parts(1, id_bytes(worker, host, environment))
}

fn site_id() -> SiteId {
    SiteId::from_parts(1, [0; 10])
}

fn host(worker: usize, number: usize) -> Host {
    let key = format!("{:064x}", worker * 1_000 + number);
    rows::host(host_id(worker, number), &format!("web{worker}-{number}.test"), &key, NOW)
}

fn environment(worker: usize, host: usize, number: usize) -> Environment {
    let name = format!("e{worker}-{host}-{number}");
    let id = environment_id(worker, host, number);
    Environment {
        id: id.clone(),
        site_id: site_id(),
        host_id: host_id(worker, host),
        state: EnvironmentState::Active,
        doc: EnvironmentDoc {
            id,
            site: "bench".to_owned(),
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
            fastcgi: None,
            redis: Some(RedisDoc {
                url: "redis://127.0.0.1:6379/0".to_owned(),
                password_file: None,
                prefix: format!("{name}:"),
                switch_file: Some(format!("/srv/{name}/redis.json")),
            }),
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1_000 },
            executor: None,
        },
        fastcgi: None,
        redis: None,
        labels: std::collections::BTreeMap::new(),
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// Writes the rows everybody needs and connects every host; answers the workers.
///
/// # Errors
/// If the store refuses.
pub async fn prepare(store: &Store) -> Res<Vec<Worker>> {
    let mut changes =
        vec![Change::InsertSite(Site { id: site_id(), name: "bench".to_owned(), created_at: NOW })];
    for worker in 0..WORKERS {
        for number in 0..HOSTS {
            changes.push(Change::InsertHost(Box::new(host(worker, number))));
            for one in 0..ENVIRONMENTS {
                changes.push(Change::InsertEnvironment(Box::new(environment(worker, number, one))));
            }
        }
    }
    let decide =
        move |_: &_| Ok(Decision { changes: changes.clone(), events: Vec::new(), reply: () });
    store.transact("bench_prepare", Scope::default(), decide).await?;
    prepare_again(store).await
}

/// The workers of a store that was prepared before, every host connected anew.
///
/// # Errors
/// If the store refuses.
pub async fn prepare_again(store: &Store) -> Res<Vec<Worker>> {
    let template = Templates::shipped()?.for_type(JobType::CachePurge);
    let controller = ControllerId::from_parts(1, [0; 10]);
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let host = host(worker, number);
            let epoch = store.session_open(rows::opening(&host, &controller, NOW)).await?;
            hosts.push(ClaimHost { host: host.id, epoch, slots: u32::try_from(ENVIRONMENTS)? });
        }
        workers.push(Worker { number: worker, hosts, template: Arc::clone(&template) });
    }
    Ok(workers)
}

impl Worker {
    fn job(&self, round: usize, place: usize) -> NewJob {
        let (host, one) = (place / ENVIRONMENTS, place % ENVIRONMENTS);
        let serial = (round * BATCH + place) as u64;
        let input = JobInput {
            id: JobId::from_parts(serial + 1, id_bytes(self.number, 0, 0)),
            host_id: host_id(self.number, host),
            site_id: Some(site_id()),
            environment_id: Some(environment_id(self.number, host, one)),
            stack_id: None,
            request: json!({"urls": [format!("http://e{host}-{one}.test/page/{serial}/")]}),
            request_id: None,
            retry_of: None,
            parent_id: None,
            executor: None,
        };
        new_job(input, &self.template, NOW)
    }

    /// Carries `rounds` batches of `batch` jobs through all three verbs, one after the other.
    ///
    /// # Errors
    /// If a job is not queued, not claimed or not settled: then the figures would be worth nothing.
    pub async fn work(&self, store: &Store, rounds: usize, batch: usize) -> Res<Took> {
        self.work_from(store, 0, rounds, batch).await
    }

    /// Queues single jobs one after the other, each when the one before is committed; seconds each
    /// took.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn queue_one_by_one(
        &self,
        store: &Store,
        caller: usize,
        jobs: usize,
    ) -> Res<Vec<f64>> {
        let mut took = Vec::with_capacity(jobs);
        for number in 0..jobs {
            let serial = caller * jobs + number;
            let job = self.job(serial / BATCH, serial % BATCH);
            let watch = Watch::start();
            store.enqueue(&[job], NOW).await?;
            took.push(watch.secs());
        }
        Ok(took)
    }

    /// As [`Worker::work`], from the round `first` on: the rounds before were worked already.
    ///
    /// # Errors
    /// As [`Worker::work`].
    pub async fn work_from(
        &self,
        store: &Store,
        first: usize,
        rounds: usize,
        batch: usize,
    ) -> Res<Took> {
        let limit = u32::try_from(batch)?;
        let mut took = Took::default();
        for round in first..first + rounds {
            let jobs: Vec<NewJob> = (0..batch).map(|place| self.job(round, place)).collect();
            let watch = Watch::start();
            store.enqueue(&jobs, NOW).await?;
            took.enqueue.push(watch.secs());

            let watch = Watch::start();
            let claimed = store.claim(&self.hosts, NOW, limit).await?;
            took.claim.push(watch.secs());
            if claimed.len() != batch {
                return Err(format!("{} of {batch} jobs were claimed", claimed.len()).into());
            }
            let settlements: Vec<Settlement> = claimed
                .into_iter()
                .map(|one| Settlement {
                    attempt: AttemptRef { job: one.job.id, attempt: one.job.attempt },
                    host: one.job.host_id,
                    outcome: succeeded(),
                    template: Arc::clone(&self.template),
                    // As with every purge: whether a warm-up follows is looked at.
                    warm_template: Some(Arc::clone(&self.template)),
                })
                .collect();
            let watch = Watch::start();
            let answers = store.settle(&settlements, NOW).await?;
            took.settle.push(watch.secs());
            let done = SettleAnswer::Settled(JobState::Succeeded);
            if answers.iter().any(|answer| *answer != done) {
                return Err("a job was not settled".into());
            }
        }
        Ok(took)
    }
}

fn succeeded() -> Outcome {
    Outcome {
        state: OutcomeState::Succeeded,
        result: Some(json!({"dry_run": false, "fastcgi": {"found": 1, "removed": 1, "bytes": 9}})),
        error: None,
        steps: Vec::new(),
        started_at_us: 1,
        finished_at_us: 2,
    }
}

/// All workers at once; seconds until the last was done, and what each call took.
///
/// # Errors
/// As [`Worker::work`], or if it takes more than five minutes.
pub async fn run(
    store: &Store,
    workers: &[Worker],
    rounds: usize,
    batch: usize,
) -> Res<(f64, Took)> {
    let watch = Watch::start();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in workers {
        let (store, worker) = (store.clone(), worker.clone());
        tasks.spawn(async move { worker.work(&store, rounds, batch).await });
    }
    let mut took = Took::default();
    let all = async {
        while let Some(done) = tasks.join_next().await {
            took.add(done??);
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    };
    tokio::time::timeout(Duration::from_secs(300), all).await??;
    Ok((watch.secs(), took))
}
