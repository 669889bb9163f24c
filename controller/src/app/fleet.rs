//! What agents' sessions and the loops can do.
