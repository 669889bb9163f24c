//! Whole-system tests, in one binary so that they link once and share what they start.

#[cfg(test)]
mod api;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod fleet;
mod layers;
mod object_cache;
mod purge;
mod recovery;
mod samples;
mod servers;
mod stand;
#[cfg(test)]
mod store;
mod toggle;
mod whole;
