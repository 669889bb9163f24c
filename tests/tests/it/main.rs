//! Whole-system tests, in one binary so that they link once and share what they start.

mod layers;
mod samples;
mod servers;
mod store;
mod whole;
