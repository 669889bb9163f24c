use super::*;

fn root() -> Surroundings {
    Surroundings { is_root: true, ..Surroundings::default() }
}

#[test]
fn nothing_has_to_be_set() {
    let config = Config::load(Settings::default(), &root()).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/hostler"));
    assert_eq!(config.database, DatabaseUrl::Sqlite("/var/lib/hostler/hostler.db".into()));
    assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
    assert!(!config.insecure_no_auth);
    assert_eq!(config.host_certificate_secs, 7 * 86_400);
}

#[test]
fn without_root_the_data_lives_with_the_user() {
    let mut around = Surroundings { home: Some("/home/ada".into()), ..Surroundings::default() };
    assert_eq!(around.data_dir(), Path::new("/home/ada/.local/state/hostler"));
    around.state_home = Some("/state".into());
    assert_eq!(around.data_dir(), Path::new("/state/hostler"));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file =
        FileConfig::parse("f", "listen = '127.0.0.1:1'\nagent-listen = '127.0.0.1:2'").unwrap();
    let settings = Settings { listen: Some("127.0.0.1:3".to_owned()), ..Settings::default() };
    let config = Config::resolve(settings, file, &root()).unwrap();
    assert_eq!((config.listen.port(), config.agent_listen.port()), (3, 2));
    assert_eq!(config.metrics_listen.map(|at| at.port()), Some(7462));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = FileConfig::parse("hostler.toml", "listen = '127.0.0.1:1'\nlisten-to = 'x'\n");
    let text = error.unwrap_err().to_string();
    assert!(text.contains("line 2") && text.contains("listen-to"), "{text}");
    let text = FileConfig::parse("f", "\n\nlisten = 5\n").unwrap_err().to_string();
    assert!(text.contains("line 3"), "{text}");
}

#[test]
fn everything_wrong_is_told_at_once_and_no_password_is() {
    let settings = Settings {
        listen: Some("here".to_owned()),
        agent_listen: Some("there".to_owned()),
        log_format: Some("xml".to_owned()),
        database_url: Some("mysql://u:hunter2@db/x".to_owned()),
        agent_addresses: vec!["nowhere".to_owned()],
        host_certificate_secs: Some("1".to_owned()),
        ..Settings::default()
    };
    let text = Config::resolve(settings, FileConfig::default(), &root()).unwrap_err().to_string();
    for name in [
        "listen:",
        "agent-listen:",
        "log-format:",
        "database-url:",
        "agent-address:",
        "host-certificate-secs:",
    ] {
        assert!(text.contains(name), "{name} is not told: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn join_strings_say_what_new_hosts_can_reach() {
    let config = Config::load(Settings::default(), &root()).unwrap();
    let any = "0.0.0.0:7461".parse().unwrap();
    assert_eq!(config.join_addresses(any, "ctl"), ["ctl:7461", "127.0.0.1:7461"]);
    let one = "10.0.0.1:9".parse().unwrap();
    assert_eq!(config.join_addresses(one, "ctl"), ["10.0.0.1:9"]);
    let set = Config { agent_addresses: vec!["c.example:1".to_owned()], ..config };
    assert_eq!(set.join_addresses(one, "ctl"), ["c.example:1"]);
}

#[test]
fn the_sample_file_is_true_commented_and_complete() {
    let sample = include_str!("../../../packaging/controller.toml");
    assert_eq!(FileConfig::parse("sample", sample).unwrap(), FileConfig::default());
    let uncommented: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')))
        .fold(String::new(), |text, line| text + line + "\n");
    let file = FileConfig::parse("sample", &uncommented).unwrap();
    let FileConfig {
        data_dir: Some(_),
        listen: Some(_),
        agent_listen: Some(_),
        metrics_listen: Some(_),
        database_url: Some(_),
        log_format: Some(_),
        agent_address: Some(_),
        insecure_no_auth: Some(false),
        require_tokens: Some(false),
        host_certificate_secs: Some(_),
    } = file.clone()
    else {
        panic!("packaging/controller.toml must show every setting: {file:?}");
    };
    Config::resolve(Settings::default(), file, &root()).unwrap();
}

#[test]
fn tokens_cannot_be_both_required_and_waived() {
    let both = Settings {
        require_tokens: Some(true),
        insecure_no_auth: Some(true),
        ..Settings::default()
    };
    let error = Config::resolve(both, FileConfig::default(), &root()).unwrap_err();
    assert!(error.to_string().contains("contradict"), "{error}");
}
