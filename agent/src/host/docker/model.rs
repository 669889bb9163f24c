//! What the engine says of containers and volumes, as far as it is of use here.

use std::collections::BTreeMap;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The label that names the project of a container, network or volume.
pub(super) const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const HASH: &str = "com.docker.compose.config-hash";
const DIRECTORY: &str = "com.docker.compose.project.working_dir";

/// A container as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Sixty-four hex digits.
    pub id: String,
    /// With a `/` before it.
    name: String,
    /// The image's own id (`sha256:…`).
    pub image: String,
    #[serde(default)]
    pub restart_count: u64,
    pub state: State,
    config: Config,
    #[serde(default)]
    host_config: HostConfig,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `running`, `exited`, `restarting`, `paused`, `created`, `dead`, `removing`.
    pub status: String,
    #[serde(default)]
    pub exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    pub oom_killed: bool,
    /// When it was started last, as the engine writes it.
    #[serde(default)]
    pub started_at: String,
    /// When it ended last, in the same way; it stays when it is started again.
    #[serde(default)]
    pub finished_at: String,
    #[serde(default)]
    health: Option<Health>,
    /// Why it could not be started.
    #[serde(default)]
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// As it was named when the container was made.
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    tty: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    restart_policy: RestartPolicy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    #[serde(default)]
    name: String,
}

/// A time as the engine writes it, in microseconds since the Unix epoch.
pub(super) fn at_us(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok()
}

impl State {
    /// When it was started last, in microseconds since the Unix epoch.
    #[must_use]
    pub fn started_at_us(&self) -> Option<i64> {
        at_us(&self.started_at)
    }

    /// When it ended last, in microseconds since the Unix epoch; long ago if it never did.
    #[must_use]
    pub fn finished_at_us(&self) -> Option<i64> {
        at_us(&self.finished_at)
    }
}

impl Container {
    fn label(&self, name: &str) -> &str {
        self.config.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// The compose service it is of.
    #[must_use]
    pub fn service(&self) -> &str {
        self.label(SERVICE)
    }

    /// The directory its project was started from.
    #[must_use]
    pub fn project_directory(&self) -> &str {
        self.label(DIRECTORY)
    }

    /// What compose knows the service's definition by.
    #[must_use]
    pub fn config_hash(&self) -> &str {
        self.label(HASH)
    }

    /// Whether `compose run` made it, for one command.
    #[must_use]
    pub fn is_one_off(&self) -> bool {
        self.label(ONE_OFF).eq_ignore_ascii_case("true")
    }

    /// The image as the compose file names it.
    #[must_use]
    pub fn image_name(&self) -> &str {
        &self.config.image
    }

    /// Whether its output is a terminal's, and not two streams.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.config.tty
    }

    /// `healthy`, `unhealthy` or `starting`, where it has a health check.
    #[must_use]
    pub fn health(&self) -> Option<&str> {
        let health = self.state.health.as_ref().map(|health| health.status.as_str());
        health.filter(|status| !matches!(*status, "" | "none"))
    }

    /// Whether its name is the one compose gives a container for as long as it is being replaced:
    /// twelve hex digits before the usual name.
    #[must_use]
    pub fn is_half_replaced(&self) -> bool {
        let digits = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
        self.name().split_once('_').is_some_and(|(before, _)| digits(before))
    }

    /// Whether the engine starts it again by itself when it ends.
    #[must_use]
    pub fn has_restart_policy(&self) -> bool {
        !matches!(self.host_config.restart_policy.name.as_str(), "" | "no")
    }

    /// Whether it has ended and waits for the engine to start it again.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.state.status == "restarting"
    }

    /// Whether it runs now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.status == "running"
    }

    /// Whether it did what it was to do and ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.status == "exited" && self.state.exit_code == 0
    }
}

/// A container in a list: only what leads to the rest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
}

/// A container in a list, as far as it tells whether anything happened to it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Glance {
    id: String,
    #[serde(default, rename = "ImageID")]
    image: String,
    #[serde(default)]
    state: String,
    /// For people: `Up 2 hours (healthy)`, `Exited (137) 3 minutes ago`.
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Glance {
    pub(super) fn project(&self) -> &str {
        self.labels.get(PROJECT).map_or("", String::as_str)
    }

    /// All of it that does not change by itself: of the status, what stands in brackets.
    pub(super) fn mark(&self) -> String {
        let told = self.status.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        let told = told.map_or("", |(told, _)| told);
        format!("{} {} {} {told}", self.id, self.image, self.state)
    }
}

/// A volume or a network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    pub name: String,
}

/// When a network was made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Made {
    #[serde(default)]
    pub(super) created: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volumes {
    #[serde(default)]
    pub(super) volumes: Option<Vec<Volume>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_s_answer_is_read() {
        let text = r#"{"Id":"ab","Name":"/p-web-1","Image":"sha256:1","RestartCount":2,"More":1,
            "State":{"Status":"running","ExitCode":0,"OOMKilled":false,"StartedAt":"t",
                     "FinishedAt":"1970-01-01T02:00:01.000002999+02:00",
                     "Health":{"Status":"starting","FailingStreak":0}},
            "HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}},
            "Config":{"Image":"box:1","Labels":{"com.docker.compose.service":"web",
                "com.docker.compose.oneoff":"False"}}}"#;
        let container: Container = serde_json::from_str(text).unwrap();
        assert_eq!((container.name(), container.service()), ("p-web-1", "web"));
        assert_eq!(container.health(), Some("starting"));
        assert!(container.is_running() && !container.is_one_off() && !container.has_terminal());
        assert_eq!((container.image_name(), container.restart_count), ("box:1", 2));
        let times = (container.state.started_at_us(), container.state.finished_at_us());
        assert_eq!(times, (None, Some(1_000_002)));
        assert!(container.has_restart_policy());
    }

    #[test]
    fn one_that_never_ended_ended_long_ago() {
        assert!(at_us("0001-01-01T00:00:00Z").is_some_and(|at_us| at_us < 0));
        assert_eq!(at_us(""), None);
    }

    #[test]
    fn a_glance_does_not_change_as_time_goes_by() {
        let mark = |state: &str, status: &str| {
            let own = serde_json::json!({ "Id": "a", "ImageID": "i", "State": state,
                "Status": status, "Labels": { PROJECT: "p" } });
            let own: Glance = serde_json::from_value(own).unwrap();
            assert_eq!(own.project(), "p");
            own.mark()
        };
        let up = mark("running", "Up 2 hours (healthy)");
        assert_eq!(up, mark("running", "Up 3 hours (healthy)"));
        assert_ne!(up, mark("running", "Up 3 hours (unhealthy)"));
        assert_ne!(mark("exited", "Exited (0) now"), mark("exited", "Exited (1) now"));
    }

    #[test]
    fn one_without_labels_or_health_check_is_read() {
        let text = r#"{"Id":"ab","Name":"/x","Image":"i","State":{"Status":"exited","ExitCode":0},
            "Config":{"Labels":null}}"#;
        let container: Container = serde_json::from_str(text).unwrap();
        assert_eq!((container.service(), container.health()), ("", None));
        assert!(container.is_done() && !container.is_half_replaced());
        assert!(!container.has_restart_policy());
    }

    #[test]
    fn one_that_is_being_replaced_is_known_by_its_name() {
        let named = |name: &str| {
            let text = format!(
                r#"{{"Id":"ab","Name":"/{name}","Image":"i","State":{{"Status":"created"}},
                    "Config":{{}}}}"#
            );
            serde_json::from_str::<Container>(&text).unwrap().is_half_replaced()
        };
        assert!(named("60752131a9ca_p-web-1") && named("60752131a9ca_p_web_1"));
        assert!(!named("p_web_1") && !named("60752131a9ca") && !named("60752131a9cx_p-web-1"));
    }
}
