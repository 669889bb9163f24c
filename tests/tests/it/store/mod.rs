//! One suite over both databases: every case runs on SQLite and on PostgreSQL.

mod queue;
mod world;

/// Names cases: `async fn case(world: World)` becomes a test per database.
macro_rules! on_both {
    ($($module:ident: $($case:ident)*;)*) => {
        mod sqlite {$(
            mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let world = crate::store::world::World::sqlite().await;
                    crate::store::$module::$case(&world).await;
                    world.end().await;
                }
            )*}
        )*}
        mod postgres {$(
            mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let world = crate::store::world::World::postgres(stringify!($case)).await;
                    crate::store::$module::$case(&world).await;
                    world.end().await;
                }
            )*}
        )*}
    };
}

on_both! {
    queue:
        a_job_goes_from_queued_to_succeeded
        jobs_of_a_lane_run_one_by_one_in_their_order
        a_purge_may_pass_a_job_in_back_off_and_nothing_else
        urgent_jobs_go_first_and_hosts_have_slots
        only_the_session_of_the_epoch_claims
        a_retry_keeps_its_place
        a_report_counts_once_and_only_from_the_host_of_the_attempt
        what_was_never_seen_is_queued_again
        unknown_attempts_stay_running_until_known
        progress_is_appended_once
        a_known_job_is_not_queued_twice;
}
