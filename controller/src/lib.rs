//! Hostler's controller.

pub mod app;
pub mod clock;
pub mod domain;
pub mod events;
pub mod fleet;
pub mod pki;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod templates;
pub mod views;
