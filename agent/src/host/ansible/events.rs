//! What our callback says of a run, one JSON line an event.

use serde::Deserialize;
use serde_json::Value;

use crate::host::process::redact;

/// One event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The playbook was loaded.
    Start,
    /// No host is meant by what the playbook says.
    NoHosts,
    /// A task begins.
    Task(Named),
    Ok(Ended),
    Skipped(Ended),
    Failed(Ended),
    Unreachable(Ended),
    /// The run came to its end.
    Stats(Stats),
    #[serde(other)]
    Unknown,
}

/// A task by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Named {
    pub task: String,
    /// The step its name begins with.
    #[serde(default)]
    pub step: Option<String>,
}

/// A task as it ended.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Ended {
    #[serde(flatten)]
    pub named: Named,
    #[serde(default)]
    pub changed: bool,
    #[serde(default)]
    pub message: String,
    /// A failure the playbook goes on after.
    #[serde(default)]
    pub ignored: bool,
    /// What a module of ours says of itself.
    #[serde(default)]
    pub data: Option<Data>,
    /// What is known of a module that failed without saying why.
    #[serde(default)]
    pub rc: Option<i32>,
    #[serde(default)]
    pub module_stderr: Option<String>,
    #[serde(default)]
    pub module_stdout: Option<String>,
    #[serde(default)]
    pub stderr: Option<String>,
    #[serde(default)]
    pub exception: Option<String>,
}

/// What a module of ours says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Data {
    /// `done`, `skipped`, `none`, `rolled_back`.
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub hint: Option<String>,
    #[serde(default)]
    pub command: Option<Vec<String>>,
    #[serde(default)]
    pub rc: Option<i32>,
    #[serde(default)]
    pub output: Option<String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// How many tasks ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Stats {
    pub ok: u64,
    pub failures: u64,
    #[serde(default)]
    pub dark: u64,
    #[serde(default)]
    pub changed: u64,
    /// Failures the playbook itself made good.
    #[serde(default)]
    pub rescued: u64,
}

impl Ended {
    /// What a person would want to see of what the module printed.
    #[must_use]
    pub fn printed(&self) -> Option<&str> {
        let data = self.data.as_ref().and_then(|data| data.output.as_deref());
        [&self.module_stderr, &self.stderr, &self.exception, &self.module_stdout]
            .into_iter()
            .filter_map(|text| text.as_deref())
            .chain(data)
            .find(|text| !text.trim().is_empty())
    }
}

/// Reads an event; `None` when the line is none. Every text in it is rid of the secrets first.
#[must_use]
pub fn read(line: &[u8], secrets: &[String]) -> Option<Event> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    hide(&mut value, secrets);
    serde_json::from_value(value).ok()
}

fn hide(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => *text = redact(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide(field, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_what_is_none_is_told_apart() {
        let read = |text: &str| read(text.as_bytes(), &[]);
        assert_eq!(read(r#"{"event":"start"}"#), Some(Event::Start));
        assert_eq!(read(r#"{"event":"something_new","x":1}"#), Some(Event::Unknown));
        let Some(Event::Failed(ended)) = read(
            r#"{"event":"failed","task":"[nginx_test] Test","step":"nginx_test","changed":false,
                "message":"no","ignored":false,"data":{"code":"NGINX_TEST_FAILED","rc":1,"mark":7}}"#,
        ) else {
            panic!("a failure was not read")
        };
        let data = ended.data.unwrap();
        assert_eq!(ended.named.step.as_deref(), Some("nginx_test"));
        assert_eq!((data.code.as_deref(), data.rc), (Some("NGINX_TEST_FAILED"), Some(1)));
        assert_eq!(data.rest["mark"], 7);
        for rubbish in ["", "{", "PLAY [all] ****", "[]", r#"{"event":"failed"}"#, "\u{0}"] {
            assert_eq!(read(rubbish), None, "{rubbish:?}");
        }
    }

    #[test]
    fn no_secret_survives_in_any_text() {
        let line =
            r#"{"event":"ok","task":"t","message":"a s\"x b","data":{"urls":[{"u":"s\"x"}]}}"#;
        let event = read(line.as_bytes(), &["s\"x".to_owned()]).unwrap();
        let told = format!("{event:?}");
        assert!(told.contains("a [redacted] b") && !told.contains("s\\\"x"), "{told}");
    }
}
