//! One suite over both databases: every case runs on SQLite and on PostgreSQL.

mod batches;
mod cluster;
mod commands;
mod desired;
mod following;
mod held;
mod interleavings;
mod keeping;
mod opening;
mod queue;
mod together;
pub(crate) mod world;

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
        a_newer_toggle_ends_the_retries_of_an_older_one
        a_report_counts_once_and_only_from_the_host_of_the_attempt
        what_was_never_seen_is_queued_again
        unknown_attempts_stay_running_until_known
        a_session_that_ends_leaves_its_attempts_unknown
        a_job_given_up_is_over_and_its_host_is_not_believed
        progress_is_appended_once
        a_known_job_is_not_queued_twice;
    following:
        a_purge_is_followed_by_one_warm_up
        a_claim_notes_the_executor_its_environment_chooses;
    batches:
        two_controllers_carry_a_batch_on_and_queue_nothing_twice
        the_same_request_makes_one_batch
        a_check_that_finds_errors_fails_its_target_and_stops_the_batch
        what_cannot_be_read_keeps_no_other_batch_waiting
        a_batch_that_ended_is_forgotten_with_its_targets;
    held:
        a_host_of_which_there_are_two_is_held;
    commands:
        a_scope_loads_all_it_names
        a_refusal_writes_nothing
        a_unit_that_fails_half_way_writes_nothing
        every_row_comes_back_as_it_was_written
        tokens_and_idempotent_requests_are_kept
        a_toggle_moves_its_environment_with_its_job
        a_moved_environment_is_on_its_new_host
        a_candidate_key_is_committed_by_its_first_session
        banned_keys_outlive_their_host;
    keeping:
        pages_go_on_while_rows_are_added
        jobs_are_found_by_what_they_are_about
        a_restart_keeps_everything
        a_job_nobody_ran_expires
        a_job_its_agent_had_no_place_for_expires
        ended_jobs_move_to_history_and_are_found_there
        old_events_go_from_the_oldest_on;
    together:
        many_claimers_never_run_two_jobs_of_a_lane
        events_are_dense_under_eight_writers
        one_name_is_given_once
        concurrent_changes_of_a_row_are_all_kept
        a_caller_that_goes_away_leaves_all_or_nothing
        a_killed_transaction_leaves_nothing
        a_defect_in_one_operation_harms_no_other;
    interleavings:
        random_interleavings_keep_lanes_and_jobs;
    cluster:
        an_installation_keeps_its_first_root
        a_controller_that_is_gone_takes_its_sessions_with_it
        a_controller_that_leaves_is_remembered_for_a_while
        other_controllers_hear_of_work
        a_doorbell_that_was_cut_off_rings_again
        two_sweepers_expire_each_job_once
        a_host_that_moved_is_claimed_for_where_it_is
        a_migration_waits_for_older_controllers_to_be_stopped;
    desired:
        one_look_runs_and_one_waits_whoever_asks
        two_controllers_begin_a_look_once
        a_delivery_is_served_once
        what_a_look_found_is_kept_whole
        a_look_that_was_given_up_changes_nothing
        two_controllers_queue_each_sync_once
        rows_of_stacks_come_back_and_are_not_overwritten
        one_stack_is_read_with_what_is_in_its_way
        the_mark_of_stacks_is_another_after_each_change;
    opening:
        opening_twice_changes_nothing
        a_newer_schema_is_refused
        a_row_that_cannot_be_read_is_named
        a_damaged_document_keeps_nobody_elses_job
        a_job_of_a_damaged_environment_can_be_let_go_and_ended
        a_host_with_a_damaged_environment_can_be_shut_out
        jobs_of_a_type_nobody_here_knows_are_left_alone
        a_database_that_is_not_there_says_so
        a_database_of_the_first_schema_is_upgraded
        a_step_that_fails_leaves_the_version_before_it;
}
