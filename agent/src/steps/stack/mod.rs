//! Compose stacks on this host: what was applied, what is wanted, and the way from one to the other.
//!
//! A stack lives in `<stacks_dir>/<project>/`:
//! * `files/`: its bundle, as compose and the containers see it, changed in place;
//! * `state.json`: what was applied and proven healthy last, and what was begun since;
//! * `host.env`: the host's own variables, if a person put the file there. Hostler only reads it:
//!   compose takes it after the stack's own `.env`, so that what it says holds. It may be `0600`;
//! * `check/`: for as long as an attempt looks at it, what compose has to read of a new bundle.
//!
//! Invariants:
//! * what compose refuses is refused before any file or container is touched;
//! * what was begun is written down first, so that after a crash the next sync finishes it;
//! * only services whose definition, image or mounted files changed are recreated or restarted,
//!   and each says why;
//! * no label, name or path given to compose varies from one sync to the next.

mod apply;
mod begin;
mod classify;
mod contents;
mod decide;
mod down;
mod drift;
mod health;
mod hidden;
mod home;
mod observe;
mod ops;
mod resolved;
mod site;
mod state;
mod stopped;
mod tidy;

pub use apply::{Applying, Done, apply};
pub use begin::Begun;
pub use decide::{Intent, Intents, Look, Remount, decide};
pub use down::Down;
pub use drift::{drift, is_as_wanted, will_change};
pub use health::Baseline;
pub use home::{Held, Home, Locks};
pub use observe::{containers, outcome};
pub use resolved::Resolved;
pub use site::Site;
pub use state::{Applied, Attempt, Seen, State};
pub use stopped::Stopped;
pub use tidy::{keep_bundles, projects};

#[cfg(test)]
mod tests;
