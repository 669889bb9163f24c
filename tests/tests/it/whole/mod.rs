//! Whole systems: real controller and agent processes, real nginx, PHP-FPM and Redis, and what
//! happens to a job when some of them die.

mod cluster;
mod database;
mod desired;
mod enrolment;
mod executors;
mod faults;
mod identity;
mod main_job;
mod outages;
