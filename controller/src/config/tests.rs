use super::git::{GitFile, StacksFile, WebhookFile};
use super::*;
use crate::domain::decide::refresh::RemovalLimits;

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
        open_desired_state: Some(false),
        host_certificate_secs: Some(_),
        git: Some(git),
        webhook: Some(webhook),
        stacks: Some(stacks),
        bundles: Some(bundles),
    } = file.clone()
    else {
        panic!("packaging/controller.toml must show every setting: {file:?}");
    };
    let WebhookFile { secret: Some(_), previous_secret: Some(_), secret_file: Some(_) } = &webhook
    else {
        panic!("packaging/controller.toml must show every setting of webhooks: {webhook:?}");
    };
    let GitFile {
        url: Some(_),
        r#ref: Some(_),
        deploy_dir: Some(_),
        poll_interval: Some(_),
        token: Some(_),
        token_file: Some(_),
        ssh_key_file: Some(_),
        known_hosts_file: Some(_),
        ca_file: Some(_),
        proxy: Some(_),
        signers_file: Some(_),
        allow_plain_http_credentials: Some(false),
    } = git.clone()
    else {
        panic!("packaging/controller.toml must show every setting of the repository: {git:?}");
    };
    let StacksFile {
        syncs_max: Some(_),
        removal_free: Some(_),
        removal_share_percent: Some(_),
        rules,
    } = &stacks
    else {
        panic!("packaging/controller.toml must show every setting of stacks: {stacks:?}");
    };
    let BundlesFile {
        endpoint: Some(_),
        bucket: Some(_),
        region: Some(region),
        prefix: Some(prefix),
        access_key_file: Some(_),
        secret_key_file: Some(_),
        ca_file: Some(_),
    } = bundles
    else {
        panic!("packaging/controller.toml must show every setting of bundles: {bundles:?}");
    };
    assert_eq!((region.as_str(), prefix.as_str()), (bundles::REGION_DEFAULT, ""));
    assert!(!rules[0].hosts.is_empty() && !rules[0].labels.is_empty());
    // Its files are there on an operator's machine alone.
    let GitFile { url, r#ref, deploy_dir, poll_interval, token, .. } = git;
    let git = GitFile { url, r#ref, deploy_dir, poll_interval, token, ..GitFile::default() };
    let webhook = WebhookFile { secret_file: None, ..webhook };
    let file = FileConfig { git: Some(git), webhook: Some(webhook), bundles: None, ..file };
    let config = Config::resolve(Settings::default(), file, &root()).unwrap();
    assert_eq!(config.desired.removal, RemovalLimits::default(), "it shows the defaults");
    assert_eq!(config.desired.webhook_secrets.len(), 2);
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

/// What a start says of a file with these sections, in one text.
fn refused(sections: &str) -> String {
    let file = FileConfig::parse("test", sections).unwrap();
    Config::resolve(Settings::default(), file, &root()).unwrap_err().to_string()
}

#[test]
fn everything_wrong_about_the_repository_is_told_at_once() {
    let text = refused(
        "[git]\nurl = \"https://user:hunter2@git.example/x\"\nref = \"a..b\"\n\
         deploy-dir = \"../x\"\nca-file = \"/nowhere/ca.pem\"\npoll-interval = \"1\"\ntoken-file = \"/nowhere/token\"\n\
         [webhook]\nsecret-file = \"/nowhere/secret\"\n\
         [stacks]\nsyncs-max = 0\nremoval-share-percent = 101\nrules = [{ stacks = \"*\" }]\n",
    );
    for name in [
        "git-url:",
        "git-ref:",
        "git-deploy-dir:",
        "git-poll-interval:",
        "/nowhere/ca.pem",
        "git-token-file:",
        "webhook-secret-file:",
        "stacks.syncs-max:",
        "stacks.removal-share-percent:",
        "stacks.rules:",
    ] {
        assert!(text.contains(name), "{name} is not told: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let text = refused("[git]\nref = \"main\"\n");
    assert!(text.contains("HOSTLER_GIT_URL"), "{text}");
}

#[test]
fn secrets_come_from_files_and_the_environment_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (token, webhook) = (dir.path().join("token"), dir.path().join("webhook"));
    std::fs::write(&token, "bob:hunter2\n").unwrap();
    std::fs::write(&webhook, "hunter3\n\n  hunter4\nhunter5\n").unwrap();
    let sections = format!(
        "[git]\nurl = \"https://git.example/x.git\"\ntoken-file = {token:?}\npoll-interval = \
         \"off\"\n[webhook]\nsecret-file = {webhook:?}\n"
    );
    let file = FileConfig::parse("test", &sections).unwrap();
    let config = Config::resolve(Settings::default(), file, &root()).unwrap();
    let known: Vec<&str> = config.desired.webhook_secrets.iter().map(|one| one.expose()).collect();
    assert_eq!(known, ["hunter3", "hunter4"], "the new one and the one before");
    assert_eq!(config.desired.poll, None);
    assert!(config.desired.git.as_ref().is_some_and(|git| git.auth.is_some()));
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
}

#[test]
fn what_is_there_and_empty_is_not_set() {
    let mut settings = Settings::default();
    settings.git.git_url = Some(String::new());
    settings.git.git_ref = Some(" ".to_owned());
    settings.git.git_poll_interval = Some(String::new());
    settings.git.git_ca_file = Some(std::path::PathBuf::new());
    let config = Config::resolve(settings.clone(), FileConfig::default(), &root()).unwrap();
    assert!(config.desired.git.is_none());
    settings.git.git_url = Some("https://git.example/x".to_owned());
    settings.git.git_deploy_dir = Some("./stacks".to_owned());
    let config = Config::resolve(settings, FileConfig::default(), &root()).unwrap();
    assert_eq!(config.desired.git.unwrap().deploy_dir.path(), "stacks");
}

#[test]
fn no_repository_is_no_error() {
    let config = Config::load(Settings::default(), &root()).unwrap();
    assert_eq!(config.desired.git, None);
    assert_eq!(config.desired.poll, Some(std::time::Duration::from_secs(180)));
}
