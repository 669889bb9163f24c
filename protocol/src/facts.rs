//! The one fact of a `Hello` that controllers act upon: in which epoch this very process of the
//! agent was last welcomed. It travels in the facts document, which older sides ignore.

use serde_json::Value;

/// The fact's name.
pub const WELCOMED_EPOCH: &str = "welcomed_epoch";

/// The facts document with the epoch this process was last welcomed in; a document that is not an
/// object is left as it is.
#[must_use]
pub fn with_welcomed(facts: &[u8], epoch: Option<u64>) -> Vec<u8> {
    let Some(epoch) = epoch else { return facts.to_vec() };
    match serde_json::from_slice(facts) {
        Ok(Value::Object(mut known)) => {
            known.insert(WELCOMED_EPOCH.to_owned(), epoch.into());
            crate::job::write(&known)
        }
        Ok(_) | Err(_) => facts.to_vec(),
    }
}

/// Takes the epoch out of the facts; `None`: the process has not been welcomed yet, or its agent is
/// of a version that does not say.
pub fn take_welcomed(facts: &mut Value) -> Option<u64> {
    facts.as_object_mut()?.remove(WELCOMED_EPOCH)?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_goes_in_and_comes_out() {
        let written = with_welcomed(br#"{"os":"x"}"#, Some(7));
        let mut facts: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(take_welcomed(&mut facts), Some(7));
        assert_eq!(facts, serde_json::json!({ "os": "x" }));
        assert_eq!(take_welcomed(&mut facts), None);
        assert_eq!(with_welcomed(b"{}", None), b"{}");
        assert_eq!(with_welcomed(b"no json", Some(1)), b"no json");
    }
}
