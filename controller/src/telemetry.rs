//! Logs and metrics of the process.
//!
//! Both are process-wide by the nature of their libraries; they are installed once, from `main`,
//! and a library user who installs neither loses nothing but them.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// What is logged when `HOSTLER_LOG` says nothing.
pub const LOG_FILTER_DEFAULT: &str = "info,quinn=warn,sqlx=warn";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The format of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `HOSTLER_LOG` is not a filter.
    #[error("HOSTLER_LOG is not a log filter (`info`, `warn,hostler_controller=debug`)")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("the metrics recorder cannot be installed")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Sends log lines to standard error.
///
/// # Errors
/// [`TelemetryError::Filter`] if the filter cannot be read.
pub fn log(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder()
        .parse(filter.unwrap_or(LOG_FILTER_DEFAULT))
        .map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An installed subscriber stays: the first one in a process wins.
    let installed = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("log lines go to the subscriber that was installed before");
    }
    Ok(())
}

/// The process's metrics, installed at the first call.
///
/// # Errors
/// [`TelemetryError::Metrics`] if another recorder was installed before.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    const SECONDS: &[f64] =
        &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()?;
    describe();
    Ok(HANDLE.get_or_init(|| handle).clone())
}

fn describe() {
    metrics::describe_gauge!("hostler_jobs", "Jobs not ended, by state");
    metrics::describe_gauge!("hostler_oldest_queued_seconds", "Age of the oldest queued job");
    metrics::describe_gauge!("hostler_hosts_connected", "Hosts with a session, of all controllers");
    metrics::describe_gauge!(
        "hostler_hosts_clock_skewed",
        "Connected hosts whose clock is more than 30 s from the controller's"
    );
    metrics::describe_gauge!(
        "hostler_certificate_left_seconds_min",
        "Time left of the certificate that ends first, of all connected hosts"
    );
    metrics::describe_gauge!("hostler_sessions", "Sessions of this controller");
    metrics::describe_gauge!(
        "hostler_udp_receive_buffer_bytes",
        "Receive buffer of the agents' port as the kernel gave it"
    );
    metrics::describe_counter!(
        "hostler_udp_receive_drops_total",
        "Datagrams of agents the system dropped because the receive buffer was full"
    );
    metrics::describe_counter!("hostler_claims_total", "Jobs claimed for hosts here");
    metrics::describe_counter!(
        "hostler_reports_total",
        "Reports of ended attempts, by what became of them"
    );
    metrics::describe_counter!("hostler_enrolments_total", "Enrolments, by result");
    metrics::describe_counter!(
        "hostler_certificate_renewals_total",
        "New certificates asked for over live sessions, by result"
    );
    metrics::describe_counter!(
        "hostler_host_recoveries_total",
        "Returns of hosts whose certificate had ended, by result"
    );
    metrics::describe_counter!(
        "hostler_handshakes_refused_total",
        "Refused connections, by reason"
    );
    metrics::describe_counter!("hostler_protocol_errors_total", "Sessions ended by a bad frame");
    metrics::describe_counter!("hostler_progress_dropped_total", "Progress lines not written");
    metrics::describe_counter!(
        "hostler_renewals_dropped_total",
        "Lease renewals left to the next heartbeat"
    );
}
