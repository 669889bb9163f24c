//! Schemas of the ids: in documents they are plain text, in the contract they have a pattern.

use utoipa::ToSchema;

macro_rules! id_schemas {
    ($($(#[$doc:meta])* $name:ident = $pattern:literal, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, ToSchema)]
        #[schema(pattern = $pattern, example = $example)]
        pub struct $name(pub String);
    )*};
}

id_schemas! {
    /// Id of a host.
    HostIdText = "^host_[0-7][0-9a-hjkmnp-tv-z]{25}$", "host_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a site.
    SiteIdText = "^site_[0-7][0-9a-hjkmnp-tv-z]{25}$", "site_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of an environment.
    EnvironmentIdText = "^env_[0-7][0-9a-hjkmnp-tv-z]{25}$", "env_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a job.
    JobIdText = "^job_[0-7][0-9a-hjkmnp-tv-z]{25}$", "job_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a batch.
    BatchIdText = "^batch_[0-7][0-9a-hjkmnp-tv-z]{25}$", "batch_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a stack.
    StackIdText = "^stack_[0-7][0-9a-hjkmnp-tv-z]{25}$", "stack_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a look at the config repository.
    RefreshIdText = "^refresh_[0-7][0-9a-hjkmnp-tv-z]{25}$", "refresh_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of an enrolment token.
    EnrolmentTokenIdText = "^enrol_[0-7][0-9a-hjkmnp-tv-z]{25}$", "enrol_01kah2m3n4p5q6r7s8t9v0w1x2";
    /// Id of a request, for matching an answer with the controller's log.
    RequestIdText = "^req_[0-7][0-9a-hjkmnp-tv-z]{25}$", "req_01kah2m3n4p5q6r7s8t9v0w1x2";
}
