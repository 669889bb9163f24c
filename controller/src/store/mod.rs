//! The database: SQLite (embedded default) or PostgreSQL behind one [`Store`].
//!
//! One operation is one atomic unit: a snapshot is loaded, a pure function decides, its changes
//! and events are written, all in one transaction. The hot verbs (enqueue, claim, accept, renew,
//! settle) take slices, run set-based and answer per id.
//!
//! Invariants:
//! * the only room that names sqlx;
//! * times are i64 microseconds UTC, ids text, documents JSON text;
//! * an event's `seq` is taken from one counter row as the last statement of its unit: dense and
//!   in commit order;
//! * what is decided on a state is written only if that state still holds.
