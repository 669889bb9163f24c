//! Optional request fields that may be absent but not null.

use serde::{Deserialize, Deserializer};

/// For a field that may be left out: an explicit null is a mistake, not a way to leave it out.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// For a part that a null takes away: absent, null and a value are three things.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
