//! Several controllers as real processes on one PostgreSQL: restarted in turn, killed, cut off.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hostler_tests::servers::{ServerError, wait_for};
use hostler_tests::system::{Cluster, Host, Site, call_any, request};
use serde_json::Value;

/// The longest anything here may take, in seconds.
const SECS_MAX: u64 = 120;
/// Milliseconds between two purges of the stream.
const PURGE_EVERY_MS: u64 = 40;

/// Purges asked for before the next thing happens.
const PURGES_BETWEEN: usize = 10;

/// Two controllers and two hosts with a site each, the first enrolled at the one, the second at the
/// other.
struct Fleet {
    // The order matters: hosts stop before their controllers.
    hosts: Vec<Host>,
    cluster: Cluster,
    sites: Vec<Site>,
}

impl Fleet {
    fn start() -> Self {
        Self::on(Cluster::start(2).unwrap())
    }

    fn on(cluster: Cluster) -> Self {
        let (mut hosts, mut sites) = (Vec::new(), Vec::new());
        for (n, controller) in cluster.controllers.iter().enumerate() {
            let mut host = Host::start(&format!("web{n}")).unwrap();
            host.enrol(controller).unwrap();
            host.run_agent().unwrap();
            controller.wait_connected(&host.name).unwrap();
            let site = Site::create(controller, &host, &format!("shop{n}")).unwrap();
            let job = site.set_caches(controller, true, false).unwrap();
            assert_eq!(job["state"], "succeeded", "{job:#}");
            hosts.push(host);
            sites.push(site);
        }
        Self { hosts, cluster, sites }
    }

    fn ports(&self) -> Vec<u16> {
        self.cluster.controllers.iter().map(|one| one.api_port).collect()
    }

    /// Waits until every host has a session at a controller other than this one.
    fn wait_moved(&self, from: usize) {
        let id = self.id(from);
        let sql = format!("SELECT count(*) FROM host_sessions WHERE controller_id <> '{id}'");
        let all = self.hosts.len().to_string();
        let moved = wait_for("every host to be elsewhere", SECS_MAX, || {
            (self.cluster.sql(&sql).ok()? == all).then_some(())
        });
        moved.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
    }

    fn id(&self, place: usize) -> String {
        let path = self.cluster.controllers[place].data_dir().join("controller-id");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn logs(&self) -> String {
        let controllers = self.cluster.controllers.iter().map(|one| one.log());
        controllers.chain(self.hosts.iter().map(Host::agent_log)).collect::<Vec<_>>().join("\n--\n")
    }

    /// Every job of the stream comes to a good end.
    fn all_succeed(&self, jobs: &[String]) {
        assert!(jobs.len() >= PURGES_BETWEEN, "hardly any job was asked for: {}", jobs.len());
        for id in jobs {
            let mut last = Value::Null;
            let ended = wait_for(&format!("job {id}"), SECS_MAX, || {
                let path = format!("/api/jobs/{id}");
                last = self.cluster.call(0, "GET", &path, &[], None).ok()?.expect(200).ok()?;
                (last["finished_at"] != Value::Null).then_some(())
            });
            ended.unwrap_or_else(|error| panic!("{error}\n{last:#}\n{}", self.logs()));
            assert_eq!(last["state"], "succeeded", "{last:#}\n{}", self.logs());
        }
    }
}

/// Asks for purges of every site in turn, of whichever controller takes them, until told to stop;
/// `work` goes on meanwhile. Answers the ids of the jobs.
fn under_purges(
    ports: &[u16],
    environments: &[String],
    work: impl FnOnce(&AtomicUsize),
) -> Vec<String> {
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let purges = scope.spawn(|| {
            let mut jobs = Vec::new();
            for n in 0_usize.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                jobs.push(purge(ports, n, &environments[n % environments.len()]));
                asked.store(jobs.len(), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(PURGE_EVERY_MS));
            }
            jobs
        });
        // However the work ends, the thread beside it has to.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            work(&asked);
            some_more(&asked);
        }));
        stop.store(true, Ordering::SeqCst);
        let jobs = purges.join().unwrap();
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        jobs
    })
}

/// Waits until the stream has gone on for a while.
fn some_more(asked: &AtomicUsize) {
    let enough = asked.load(Ordering::SeqCst) + PURGES_BETWEEN;
    wait_for("more purges to be asked for", SECS_MAX, || {
        (asked.load(Ordering::SeqCst) >= enough).then_some(())
    })
    .unwrap();
}

/// One purge; the key makes it one however often it has to be asked for.
fn purge(ports: &[u16], n: usize, environment: &str) -> String {
    let path = format!("/api/environments/{environment}/cache/purge");
    let key = format!("purge-{environment}-{n}");
    let headers = [("Idempotency-Key", key.as_str())];
    let reply = wait_for("a controller to take a purge", SECS_MAX, || {
        call_any(ports, n, "POST", &path, &headers, None).ok()
    });
    let accepted = reply.unwrap().expect(202).unwrap();
    accepted["job_id"].as_str().unwrap().to_owned()
}

#[test]
fn controllers_are_restarted_in_turn_without_a_failed_job() {
    let mut fleet = Fleet::start();
    let environments: Vec<String> =
        fleet.sites.iter().map(|site| site.environment.clone()).collect();
    let ports = fleet.ports();
    let jobs = under_purges(&ports, &environments, |asked| {
        for place in [0, 1, 0] {
            some_more(asked);
            let code = fleet.cluster.controllers[place].stop();
            assert_eq!(code, Some(0), "{}", fleet.logs());
            fleet.wait_moved(place);
            fleet.cluster.controllers[place].run().unwrap();
        }
    });
    fleet.all_succeed(&jobs);
    let unwanted = "SELECT count(*) FROM events WHERE kind IN ('job.failed', 'job.held', \
        'job.cancelled') OR document LIKE '%INTERRUPTED%'";
    assert_eq!(fleet.cluster.sql(unwanted).unwrap(), "0", "{}", fleet.logs());
    let crashes = "SELECT coalesce(sum(crashes + failures), 0) FROM jobs";
    assert_eq!(fleet.cluster.sql(crashes).unwrap(), "0");
    // A stop that was announced is nothing to warn of: every agent was at one that stopped.
    for host in &fleet.hosts {
        let log = host.agent_log();
        let told = log.lines().find(|line| line.contains("the controller has stopped"));
        assert!(told.is_some_and(|line| line.contains("INFO")), "{log}");
    }
}

/// The ids of an event stream, read to its end.
fn ids(stream: &str) -> Vec<i64> {
    stream.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
}

#[test]
fn hosts_move_when_their_controller_is_killed_and_their_work_goes_on() {
    let mut fleet = Fleet::start();
    let environments: Vec<String> =
        fleet.sites.iter().map(|site| site.environment.clone()).collect();
    let ports = fleet.ports();
    let victim = fleet.id(0);
    // Hosts begin anywhere: bring them all to the one that is killed.
    fleet.cluster.controllers[1].stop();
    fleet.wait_moved(1);
    fleet.cluster.controllers[1].run().unwrap();
    let jobs = under_purges(&ports, &environments, |_| {
        fleet.cluster.controllers[0].kill();
        fleet.wait_moved(0);
        let gone = format!("SELECT state FROM controllers WHERE id = '{victim}'");
        wait_for("the other to call it gone", SECS_MAX, || {
            (fleet.cluster.sql(&gone).ok()? == "gone").then_some(())
        })
        .unwrap();
    });
    fleet.all_succeed(&jobs);
    assert!(fleet.cluster.controllers[1].log().contains("gives no sign of life"));
    fleet.cluster.controllers[0].run().unwrap();
    let serving = "SELECT count(*) FROM controllers WHERE state = 'serving'";
    assert_eq!(fleet.cluster.sql(serving).unwrap(), "2");

    // A stream is the same at both, from any event on: who loses it goes on at the other.
    let job = jobs.last().unwrap();
    let path = format!("/api/jobs/{job}/events");
    let at = |place: usize, after: Option<i64>| {
        let after = after.map(|seq| seq.to_string());
        let headers: Vec<_> = after.iter().map(|seq| ("Last-Event-ID", seq.as_str())).collect();
        let reply = request(ports[place], "GET", &path, &headers, None).unwrap();
        assert!(reply.text.contains("event: end"), "{}", reply.text);
        ids(&reply.text)
    };
    let (here, there) = (at(0, None), at(1, None));
    assert!(here.len() > 2, "{here:?}");
    assert_eq!(here, there);
    let (half, rest) = here.split_at(here.len() / 2);
    assert_eq!(at(1, half.last().copied()), rest, "a gap or a repeat");
}

#[test]
fn a_database_without_free_connections_is_said_so_and_nothing_is_lost() {
    let fleet = Fleet::on(limited().unwrap());
    let environment = &fleet.sites[0].environment;
    let path = format!("/api/environments/{environment}/cache/purge");
    let accepted = purge(&fleet.ports(), 0, environment);
    let limit = |connections: &str| {
        fleet.cluster.sql(&format!("ALTER ROLE hostler CONNECTION LIMIT {connections}")).unwrap();
    };
    limit("0");
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE usename = 'hostler'";
    fleet.cluster.sql(cut).unwrap();
    let port = fleet.ports()[0];
    let refused = wait_for("a request to be refused", SECS_MAX, || {
        let reply = request(port, "POST", &path, &[], None).unwrap();
        (reply.status != 202).then_some(reply)
    });
    let refused = refused.unwrap();
    assert_eq!(refused.expect(503).unwrap()["code"], "STORE_UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("2"));
    limit("-1");
    let later = purge(&fleet.ports(), 1, environment);
    for id in [accepted, later] {
        let job = fleet.cluster.controllers[0].wait_job(&id, &["succeeded", "failed"]).unwrap();
        assert_eq!(job["state"], "succeeded", "{job:#}\n{}", fleet.logs());
    }
}

/// A cluster whose users are no superusers, since only such can be kept out: the first controller is
/// `hostler`, the second `hostler_b`.
fn limited() -> Result<Cluster, ServerError> {
    let postgres = hostler_tests::servers::postgres::Postgres::start_own()?;
    postgres.create_database("cluster")?;
    for sql in [
        "CREATE ROLE hostler LOGIN",
        "CREATE ROLE hostler_b LOGIN IN ROLE hostler",
        // What it makes and owns is the first one's.
        "ALTER ROLE hostler_b SET role = hostler",
        "ALTER DATABASE cluster OWNER TO hostler",
    ] {
        postgres.psql("postgres", sql)?;
    }
    let url = |user: &str| postgres.url("cluster").replace("postgres@", &format!("{user}@"));
    let urls = [url("hostler"), url("hostler_b")];
    Cluster::start_on(postgres, &urls)
}

/// The database stays out of one controller's reach while hosts are in it: they are sent to the other,
/// and what ran goes on.
#[test]
fn a_controller_that_is_cut_off_sends_its_hosts_away() {
    let mut fleet = Fleet::on(limited().unwrap());
    let environments: Vec<String> =
        fleet.sites.iter().map(|site| site.environment.clone()).collect();
    // Bring all hosts to the second controller.
    fleet.cluster.controllers[0].stop();
    fleet.wait_moved(0);
    fleet.cluster.controllers[0].run().unwrap();
    let ports = fleet.ports();
    let jobs = under_purges(&ports[..1], &environments, |_| {
        fleet.cluster.sql("ALTER ROLE hostler_b CONNECTION LIMIT 0").unwrap();
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE usename = 'hostler_b'";
        fleet.cluster.sql(cut).unwrap();
        fleet.wait_moved(1);
    });
    fleet.all_succeed(&jobs);
    fleet.cluster.sql("ALTER ROLE hostler_b CONNECTION LIMIT -1").unwrap();
    let serving = "SELECT count(*) FROM controllers WHERE state = 'serving'";
    wait_for("the second controller to be back", SECS_MAX, || {
        (fleet.cluster.sql(serving).ok()? == "2").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", fleet.logs()));
    let log = fleet.cluster.controllers[1].log();
    assert!(log.contains("hosts are sent elsewhere"), "{log}");
    assert!(log.contains("took this one for gone"), "{log}");
    let bad =
        "SELECT count(*) FROM events WHERE kind IN ('job.failed', 'job.held', 'job.cancelled')";
    assert_eq!(fleet.cluster.sql(bad).unwrap(), "0", "{}", fleet.logs());
}

#[test]
fn a_start_in_a_bad_state_says_which_and_what_to_do() {
    let mut cluster = limited().unwrap();
    assert_eq!(cluster.controllers[1].stop(), Some(0));
    let refusal = |cluster: &mut Cluster| {
        let refused = cluster.controllers[1].run().unwrap_err().to_string();
        assert!(refused.contains("the controller ended"), "it did not end by itself: {refused}");
        refused
    };
    cluster.sql("ALTER ROLE hostler_b CONNECTION LIMIT 0").unwrap();
    let refused = refusal(&mut cluster);
    assert!(refused.contains("take up all its connections"), "{refused}");
    cluster.sql("ALTER ROLE hostler_b CONNECTION LIMIT -1").unwrap();

    cluster.sql("ALTER ROLE hostler_b SET default_transaction_read_only = on").unwrap();
    let refused = refusal(&mut cluster);
    assert!(refused.contains("the database is read-only"), "{refused}");
    cluster.sql("ALTER ROLE hostler_b SET default_transaction_read_only = off").unwrap();

    // As an older build left it.
    let newest = cluster.sql("SELECT max(version) FROM schema_migrations").unwrap();
    cluster.sql(&format!("DELETE FROM schema_migrations WHERE version = {newest}")).unwrap();
    let refused = refusal(&mut cluster);
    assert!(refused.contains("`hostler-controller migrate`"), "{refused}");
    cluster.sql(&format!("INSERT INTO schema_migrations (version) VALUES ({newest})")).unwrap();
    cluster.sql("INSERT INTO schema_migrations (version) VALUES (9999)").unwrap();
    let refused = refusal(&mut cluster);
    assert!(refused.contains("upgrade the controller"), "{refused}");
    cluster.sql("DELETE FROM schema_migrations WHERE version = 9999").unwrap();
    cluster.controllers[1].run().unwrap();
}
