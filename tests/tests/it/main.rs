//! Whole-system tests, in one binary so that they link once and share what they start.

#[cfg(test)]
mod ansible;
#[cfg(test)]
mod api;
#[cfg(test)]
mod bundles;
#[cfg(test)]
mod charts;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod git;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod object_cache;
#[cfg(test)]
mod probe_origin;
#[cfg(test)]
mod purge;
#[cfg(test)]
mod purge_again;
#[cfg(test)]
mod purge_modes;
#[cfg(test)]
mod purge_select;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod requirements;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod stand;
#[cfg(test)]
mod stand_cache;
#[cfg(test)]
mod store;
#[cfg(test)]
mod toggle;
#[cfg(test)]
mod tracking;
#[cfg(test)]
mod warm;
#[cfg(test)]
mod whole;
