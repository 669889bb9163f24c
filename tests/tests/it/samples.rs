//! The sample configurations are true: as they are they say nothing, and with every default
//! uncommented they say the defaults.

use std::path::{Path, PathBuf};

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    std::fs::read_to_string(&path).unwrap()
}

/// The sample with its settings uncommented: lines of `# key = …` and what continues them.
fn uncommented(text: &str) -> String {
    let mut open = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some(setting) = line.strip_prefix("# ") else {
            lines.push(line.to_owned());
            continue;
        };
        let key = setting.split(" = ").next().unwrap();
        let starts = setting.contains(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if starts || open {
            open = (open || setting.ends_with('[')) && setting != "]";
            lines.push(setting.to_owned());
        }
    }
    lines.join("\n")
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sample.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn the_agent_sample_says_the_defaults() {
    let text = sample("agent.toml");
    let settings = uncommented(&text);
    assert!(settings.matches(" = ").count() >= 6, "settings were lost:\n{settings}");
    for text in [&text, &settings] {
        let (_directory, path) = file(text);
        let mut config = hostler_agent::config::Config::load(Some(&path)).unwrap();
        config.policy = None;
        assert_eq!(config, hostler_agent::config::Config::default());
    }
}

#[test]
fn the_policy_sample_says_the_defaults() {
    let text = sample("policy.toml");
    let settings = uncommented(&text);
    assert!(settings.matches(" = ").count() >= 8, "settings were lost:\n{settings}");
    for text in [&text, &settings] {
        let (_directory, path) = file(text);
        let policy = hostler_agent::policy::Policy::load(Some(&path)).unwrap();
        assert_eq!(policy, hostler_agent::policy::Policy::default());
    }
}
