//! Each kind of server, each kind of reference, and who is let in.

use hostler_controller::git::{Class, GitSettings, HttpAuth, Secret};
use hostler_tests::servers::git::{Break, Change, GitServer, Proxy, git, output};
use hostler_tests::servers::{command, free_port};

use super::{Rig, class, fetch, open, read, try_once};

/// Follows a branch over one change, and looks that the files are the commit's.
fn follows_a_branch(mut rig: Rig) {
    let mirror = rig.mirror();
    assert_eq!(mirror.revision(), None);
    let first = fetch(&mirror).unwrap();
    assert_eq!((first.revision.as_str(), first.changed), (rig.first.as_str(), true));
    assert_eq!(first.commit.author, "Ada");
    assert_eq!(first.commit.email.as_deref(), Some("ada@example.test"));
    assert_eq!(first.commit.summary, "Change files");
    assert_eq!(first.commit.committed_at_us, 1_700_000_060_000_000);
    assert!(first.bytes_received > 100, "{first:?}");
    assert_eq!(read(&mirror, "web/docker-compose.yml").unwrap(), b"services: {a: {image: x}}\n");

    let again = fetch(&mirror).unwrap();
    assert_eq!((again.revision.as_str(), again.changed), (rig.first.as_str(), false));

    let second =
        rig.work.publish(&[("web/docker-compose.yml", "services: {b: {image: x}}\n")]).unwrap();
    let changed = fetch(&mirror).unwrap();
    assert_eq!((changed.revision.as_str(), changed.changed), (second.as_str(), true));
    assert_eq!(read(&mirror, "web/docker-compose.yml").unwrap(), b"services: {b: {image: x}}\n");

    drop(mirror);
    let reopened = rig.mirror();
    assert_eq!(reopened.revision().unwrap().revision, second, "survives a restart");
    assert!(!fetch(&reopened).unwrap().changed);
}

#[test]
fn a_branch_is_followed_on_the_disk() {
    follows_a_branch(Rig::file());
}

#[test]
fn a_branch_is_followed_over_https() {
    follows_a_branch(Rig::https());
}

#[test]
fn a_branch_is_followed_over_ssh() {
    follows_a_branch(Rig::ssh());
}

#[test]
fn a_branch_is_followed_by_protocol_version_1() {
    let mut rig = Rig::https();
    let url = rig.server.url("stacks").replace("/stacks.git", "/v1/stacks.git");
    let mirror = rig.open(rig.server.settings_of(&url, "main").unwrap());
    assert_eq!(fetch(&mirror).unwrap().revision, rig.first);
    let second = rig.work.publish(&[("a", "1")]).unwrap();
    assert_eq!(fetch(&mirror).unwrap().revision, second);
    assert_eq!(read(&mirror, "a").unwrap(), b"1");
}

/// Tags and commits, of which the newest is not the tip of a branch.
fn names_any_commit(mut rig: Rig) {
    rig.work.git(&["tag", "light"]).unwrap();
    rig.work.git(&["tag", "-a", "-m", "Release", "annotated"]).unwrap();
    rig.work.git(&["tag", "-a", "-m", "Again", "nested", "annotated"]).unwrap();
    for tag in ["light", "annotated", "nested"] {
        rig.work.push_as(tag, &format!("refs/tags/{tag}")).unwrap();
    }
    let newer =
        rig.work.publish(&[("web/docker-compose.yml", "services: {c: {image: x}}\n")]).unwrap();
    assert_ne!(newer, rig.first);
    for reference in ["light", "annotated", "nested", "refs/tags/annotated", &rig.first] {
        let fetched = rig.try_reference(reference).unwrap();
        assert_eq!(fetched.revision, rig.first, "{reference}");
    }
    assert_eq!(rig.try_reference("refs/heads/main").unwrap().revision, newer);
    // A branch goes before the tag of its name.
    rig.work.push_as("light", "refs/tags/main").unwrap();
    assert_eq!(rig.try_reference("main").unwrap().revision, newer);
    for unknown in ["nowhere", "refs/heads/light", &"ab".repeat(20)] {
        let error = rig.try_reference(unknown).unwrap_err();
        assert_eq!(class(&error), (Class::Ref, "GIT_REF_NOT_FOUND"), "{unknown}: {error}");
    }
}

#[test]
fn tags_and_commits_are_found_on_the_disk() {
    names_any_commit(Rig::file());
}

#[test]
fn tags_and_commits_are_found_over_https() {
    names_any_commit(Rig::https());
}

#[test]
fn tags_and_commits_are_found_over_ssh() {
    names_any_commit(Rig::ssh());
}

#[test]
fn a_commit_the_server_does_not_give_is_no_commit() {
    let mut rig = Rig::https();
    rig.work.git(&["checkout", "--quiet", "--orphan", "anew"]).unwrap();
    rig.work.publish(&[("a", "1")]).unwrap();
    let url = rig.server.url("stacks").replace("/stacks.git", "/v1/stacks.git");
    let settings = rig.server.settings_of(&url, &rig.first).unwrap();
    // Without version 2, a server gives only what its references lead to.
    let error = try_once(settings.clone()).unwrap_err();
    assert_eq!(error.class(), Class::Ref, "{error}");
    rig.server.configure("stacks", "uploadpack.allowAnySHA1InWant", "true").unwrap();
    assert_eq!(try_once(settings).unwrap().revision, rig.first);
}

#[test]
fn a_commit_by_its_id_is_asked_for_once() {
    let rig = Rig::https();
    let mirror = rig.open(rig.server.settings("stacks", &rig.first).unwrap());
    assert!(fetch(&mirror).unwrap().changed);
    let web = rig.server.web().unwrap();
    let asked = web.asked_once_there_are(2).unwrap();
    let again = fetch(&mirror).unwrap();
    assert_eq!((again.revision, again.changed), (rig.first.clone(), false));
    assert_eq!(again.bytes_received, 0);
    assert_eq!(web.asked(), asked);
}

#[test]
fn a_tag_of_a_file_is_no_commit() {
    let rig = Rig::file();
    let blob = rig.work.git(&["rev-parse", "HEAD:web/docker-compose.yml"]).unwrap();
    rig.work.git(&["tag", "-a", "-m", "A file", "file", &blob]).unwrap();
    rig.work.push_as("file", "refs/tags/file").unwrap();
    let error = rig.try_reference("file").unwrap_err();
    assert_eq!(error.class(), Class::Ref, "{error}");
}

#[test]
fn a_repository_that_is_not_there_says_so() {
    for server in
        [GitServer::file().unwrap(), GitServer::https(None).unwrap(), GitServer::ssh().unwrap()]
    {
        let error = try_once(server.settings("nowhere", "main").unwrap()).unwrap_err();
        let (class, url) = (error.class(), server.url("nowhere"));
        assert_eq!(class, Class::NotFound, "{url}: {error}");
        server.create("empty").unwrap();
        let error = try_once(server.settings("empty", "main").unwrap()).unwrap_err();
        assert_eq!(error.class(), Class::Ref, "{url}: {error}");
    }
}

#[test]
fn credentials_let_in_and_wrong_ones_do_not() {
    let rig = Rig::over(GitServer::https(Some(("ada", "s3cret-pass"))).unwrap());
    assert_eq!(fetch(&rig.mirror()).unwrap().revision, rig.first);
    let secret = |text: &str| Secret::new(text.to_owned());
    let with = |auth: Option<HttpAuth>| GitSettings { auth, ..rig.settings() };
    let of_file = HttpAuth::of_text(secret("ada:s3cret-pass"));
    assert_eq!(try_once(with(Some(of_file))).unwrap().revision, rig.first);
    for auth in [
        None,
        Some(HttpAuth::basic("ada".to_owned(), secret("wr0ng-pass"))),
        Some(HttpAuth::token(secret("wr0ng-pass"))),
    ] {
        let error = try_once(with(auth)).unwrap_err();
        assert_eq!(class(&error), (Class::Auth, "GIT_AUTH_FAILED"), "{error}");
        assert!(!error.to_string().contains("wr0ng-pass"), "{error}");
    }
}

#[test]
fn a_token_lets_in_as_forges_have_it() {
    let rig = Rig::over(GitServer::https(Some(("x-access-token", "t0ken"))).unwrap());
    let mut settings = rig.settings();
    settings.auth = Some(HttpAuth::of_text(Secret::new("t0ken".to_owned())));
    assert_eq!(try_once(settings).unwrap().revision, rig.first);
}

#[test]
fn another_authority_is_not_trusted() {
    let rig = Rig::https();
    let other = Rig::https();
    let mut settings = rig.settings();
    for ca_file in [None, other.settings().ca_file] {
        settings.ca_file = ca_file;
        let error = try_once(settings.clone()).unwrap_err();
        assert_eq!(class(&error), (Class::Tls, "GIT_TLS_FAILED"), "{error}");
    }
    assert_eq!(rig.server.web().unwrap().asked(), [], "nothing was asked of an untrusted server");
}

#[test]
fn a_file_without_certificates_is_said_at_the_start() {
    let rig = Rig::https();
    let mut settings = rig.settings();
    settings.ca_file = Some(rig.work.dir().join("web/docker-compose.yml"));
    let clock = hostler_controller::clock::Clock::system();
    let opened = hostler_controller::git::Mirror::open(&rig.dir.path().join("m"), settings, clock);
    assert_eq!(opened.unwrap_err().class(), Class::Tls);
}

#[test]
fn the_servers_pinned_host_key_is_the_only_one() {
    let mut rig = Rig::ssh();
    let mirror = rig.mirror();
    assert_eq!(fetch(&mirror).unwrap().revision, rig.first);
    let second = rig.work.publish(&[("a", "1")]).unwrap();
    rig.server.shell().unwrap().change_host_key().unwrap();
    let before = rig.server.shell().unwrap().log();
    let error = fetch(&mirror).unwrap_err();
    assert_eq!(class(&error), (Class::HostKey, "GIT_HOST_KEY_REFUSED"), "{error}");
    assert_eq!(mirror.revision().unwrap().revision, rig.first, "what was there stays");
    assert_eq!(read(&mirror, "a"), None);
    let after = rig.server.shell().unwrap().log();
    assert!(!after[before.len()..].contains("Accepted publickey"), "{after}");

    // A server nobody has pinned a key of is no better.
    let nobody = rig.dir.path().join("empty");
    std::fs::write(&nobody, "").unwrap();
    let mut settings = rig.settings();
    settings.known_hosts_file = Some(nobody.clone());
    let error = try_once(settings).unwrap_err();
    assert_eq!(error.class(), Class::HostKey, "{error}");
    assert_eq!(std::fs::read(&nobody).unwrap(), b"", "and its key is not taken");
    assert_ne!(second, rig.first);
}

#[test]
fn a_strange_ssh_key_is_refused() {
    let mut rig = Rig::ssh();
    let mut settings = rig.settings();
    settings.ssh_key_file = Some(rig.server.shell().unwrap().strange_key().unwrap());
    let error = try_once(settings).unwrap_err();
    assert_eq!(class(&error), (Class::Auth, "GIT_AUTH_FAILED"), "{error}");
}

#[test]
fn an_unprotected_ssh_key_is_said_so() {
    let mut rig = Rig::ssh();
    let key = rig.server.shell().unwrap().client_key.clone();
    output(command("chmod").arg("644").arg(&key)).unwrap();
    let error = try_once(rig.settings()).unwrap_err();
    assert_eq!(error.class(), Class::Auth, "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_redirect_is_followed_on_the_same_origin_only() {
    let rig = Rig::over(GitServer::https(Some(("ada", "s3cret"))).unwrap());
    let at = |prefix: &str| {
        let url = rig.server.url("stacks").replace("/stacks.git", prefix);
        rig.server.settings_of(&url, "main").unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), at("/moved/stacks.git"));
    assert_eq!(fetch(&mirror).unwrap().revision, rig.first);
    let web = rig.server.web().unwrap();
    assert_eq!(web.asked_once_there_are(4).unwrap().len(), 4);
    let error = try_once(at("/away/stacks.git")).unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
    assert!(error.to_string().contains("https://127.0.0.1"), "{error}");
    let asked = web.asked_once_there_are(5).unwrap();
    assert_eq!(asked.len(), 5, "the other origin was asked: {asked:?}");
}

#[test]
fn nobody_at_the_address_is_said_so() {
    let rig = Rig::https();
    let port = free_port().unwrap();
    for url in [format!("https://127.0.0.1:{port}/a.git"), format!("http://127.0.0.1:{port}/a.git")]
    {
        let mut settings = rig.server.settings_of(&url, "main").unwrap();
        settings.ca_file = settings.ca_file.filter(|_| url.starts_with("https"));
        let error = try_once(settings).unwrap_err();
        assert_eq!(class(&error), (Class::Network, "GIT_UNREACHABLE"), "{error}");
    }
    let ssh = Rig::ssh();
    let url = format!("ssh://git@127.0.0.1:{port}/a.git");
    let error = try_once(ssh.server.settings_of(&url, "main").unwrap()).unwrap_err();
    assert_eq!(error.class(), Class::Network, "{error}");
}

#[test]
fn a_path_with_blanks_and_quotes_arrives_whole() {
    for server in [GitServer::file().unwrap(), GitServer::ssh().unwrap()] {
        let name = "it's-a!b";
        let mut work = server.create(name).unwrap();
        work.set("a", Change::File(b"1")).unwrap();
        let commit = work.commit("One").unwrap();
        work.push("refs/heads/main").unwrap();
        let fetched = try_once(server.settings(name, "main").unwrap()).unwrap();
        assert_eq!(fetched.revision, commit);
    }
}

#[test]
fn a_connection_the_server_has_closed_is_opened_anew() {
    let mut rig = Rig::https();
    let proxy = Proxy::start(rig.server.web().unwrap().port(), Break::Cut, u64::MAX).unwrap();
    let url = format!("https://localhost:{}/stacks.git", proxy.port);
    let mirror = rig.open(rig.server.settings_of(&url, "main").unwrap());
    for _ in 0..5 {
        fetch(&mirror).unwrap();
    }
    // More than one only where an answer took its time to end.
    let connections = proxy.connections();
    assert!(connections < 5, "{connections} connections for five looks of two requests each");
    for round in 0..5 {
        rig.server.web().unwrap().close_idle().unwrap();
        let commit = rig.work.publish(&[("a", &round.to_string())]).unwrap();
        assert_eq!(fetch(&mirror).unwrap().revision, commit);
    }
    assert!(proxy.connections() >= 6);
}

#[test]
fn a_repository_with_longer_ids_is_said_so() {
    for server in [GitServer::file().unwrap(), GitServer::https(None).unwrap()] {
        let path = server.path("long");
        let init = ["init", "--quiet", "--bare", "--object-format=sha256"];
        output(git(path.parent().unwrap()).args(init).arg(&path)).unwrap();
        let error = try_once(server.settings("long", "main").unwrap()).unwrap_err();
        assert_eq!(class(&error), (Class::Internal, "GIT_INTERNAL"), "{error}");
        assert!(error.to_string().contains("SHA-256"), "{error}");
    }
}
