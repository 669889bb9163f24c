use proptest::prelude::*;

use super::*;

fn push(reference: &str, after: Option<&str>, deleted: bool) -> Event {
    let (reference, after) = (reference.to_owned(), after.map(str::to_owned));
    Event::Push(vec![RefChange { reference, after, deleted }])
}

#[test]
fn each_forges_push_is_understood() {
    let zeros = "0".repeat(40);
    let gone = format!(r#"{{"ref":"refs/heads/x","after":"{zeros}"}}"#);
    let github = r#"{"ref":"refs/heads/main","after":"abc","deleted":false,"commits":[{"id":1}],
                     "repository":{"default_branch":"main","id":7}}"#;
    let bitbucket = r#"{"push":{"changes":[{"new":{"type":"branch","name":"main",
        "target":{"hash":"abc"}}}]},"repository":{"mainbranch":{"name":"main"}}}"#;
    let tag = r#"{"push":{"changes":[{"old":{"type":"tag","name":"v1"},"new":null}]}}"#;
    let server = r#"{"changes":[{"refId":"refs/heads/main","toHash":"abc","type":"UPDATE"}]}"#;
    let made = r#"{"ref":"v1","ref_type":"tag"}"#;
    for (header, name, body, forge, event) in [
        (
            "X-GitHub-Event",
            "push",
            github,
            Forge::Github,
            push("refs/heads/main", Some("abc"), false),
        ),
        (
            "X-Gitea-Event",
            "push",
            github,
            Forge::Gitea,
            push("refs/heads/main", Some("abc"), false),
        ),
        ("X-Forgejo-Event", "push", &gone, Forge::Forgejo, push("refs/heads/x", None, true)),
        ("X-Gogs-Event", "push", &gone, Forge::Gogs, push("refs/heads/x", None, true)),
        ("X-Gitlab-Event", "Push Hook", &gone, Forge::Gitlab, push("refs/heads/x", None, true)),
        ("X-GitHub-Event", "create", made, Forge::Github, push("refs/tags/v1", None, false)),
        ("X-GitHub-Event", "delete", made, Forge::Github, push("refs/tags/v1", None, true)),
        (
            "X-Event-Key",
            "repo:push",
            bitbucket,
            Forge::Bitbucket,
            push("refs/heads/main", Some("abc"), false),
        ),
        ("X-Event-Key", "repo:push", tag, Forge::Bitbucket, push("refs/tags/v1", None, true)),
        (
            "X-Event-Key",
            "repo:refs_changed",
            server,
            Forge::Bitbucket,
            push("refs/heads/main", Some("abc"), false),
        ),
    ] {
        let delivery = parse(&[(header, name)], body.as_bytes());
        assert_eq!((delivery.forge, &delivery.event), (forge, &event), "{header} {name}");
    }
    let system =
        br#"{"event_name":"push","ref":"refs/heads/main","project":{"default_branch":"m"}}"#;
    let delivery = parse(&[("X-Gitlab-Event", "System Hook")], system);
    assert_eq!(delivery.event, push("refs/heads/main", None, false));
    assert_eq!(delivery.default_branch.as_deref(), Some("m"));
    let generic = parse(&[], br#"{"ref":"main"}"#);
    assert_eq!(
        (generic.forge, generic.event),
        (Forge::Generic, push("refs/heads/main", None, false))
    );
}

#[test]
fn a_forge_that_sends_anothers_headers_is_itself() {
    let headers = [
        ("X-GitHub-Event", "push"),
        ("X-Gogs-Event", "push"),
        ("X-Gitea-Event", "push"),
        ("X-Gitea-Delivery", "d-1"),
        ("X-GitHub-Delivery", "d-2"),
    ];
    let delivery = parse(&headers, b"{}");
    assert_eq!((delivery.forge, delivery.delivery_id.as_deref()), (Forge::Gitea, Some("d-1")));
}

#[test]
fn a_delivery_id_is_plain_and_short_or_none() {
    let id = |value: &str| {
        parse(&[("x-github-event", "ping"), ("x-github-delivery", value)], b"").delivery_id
    };
    assert_eq!(id("72d3162e-cc78").as_deref(), Some("72d3162e-cc78"));
    for bad in ["", "a b", "ä", &"x".repeat(DELIVERY_ID_BYTES_MAX + 1)] {
        assert_eq!(id(bad), None, "{bad}");
    }
}

#[test]
fn a_form_holds_the_same_json() {
    let headers =
        [("content-type", "application/x-www-form-urlencoded"), ("x-github-event", "push")];
    let body = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
    assert_eq!(parse(&headers, body).event, push("refs/heads/main", None, false));
    assert_eq!(parse(&headers, b"other=1").event, Event::Unreadable);
    // What curl says of any body it is given.
    let json = br#"{"ref":"refs/heads/a&payload=b"}"#;
    assert_eq!(parse(&headers, json).event, push("refs/heads/a&payload=b", None, false));
}

#[test]
fn only_what_moves_our_reference_concerns_us() {
    let delivery = |reference: &str, default: Option<&str>| Delivery {
        forge: Forge::Github,
        delivery_id: None,
        event: push(reference, None, false),
        default_branch: default.map(str::to_owned),
    };
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for (setting, reference, default, refreshes) in [
        ("main", "refs/heads/main", None, true),
        ("main", "refs/heads/main2", None, false),
        ("main", "refs/heads/x/main", None, false),
        ("v1", "refs/tags/v1", None, true),
        ("main", "refs/tags/v1", None, false),
        ("refs/heads/main", "refs/heads/main", None, true),
        ("refs/heads/main", "refs/tags/main", None, false),
        ("tags/v1", "refs/tags/v1", None, true),
        ("", "refs/heads/main", Some("main"), true),
        ("", "refs/heads/dev", Some("main"), false),
        ("HEAD", "refs/heads/dev", None, true),
        ("HEAD", "refs/tags/v1", None, false),
        (commit, "refs/heads/any", None, true),
    ] {
        let verdict = concerns(setting, &delivery(reference, default));
        assert_eq!(verdict == Verdict::Refresh, refreshes, "{setting} {reference} {verdict:?}");
    }
    let Verdict::Ignored(why) = concerns("main", &delivery("refs/heads/dev", None)) else {
        panic!("another branch is ignored");
    };
    assert_eq!(why, "refs/heads/dev moved; main is followed");
}

#[test]
fn pings_and_other_events_are_ignored_and_said_so() {
    for (header, name) in [
        ("x-github-event", "ping"),
        ("x-event-key", "diagnostics:ping"),
        ("x-github-event", "issues"),
        ("x-gitlab-event", "Note Hook"),
    ] {
        let verdict = concerns("main", &parse(&[(header, name)], b"not json"));
        assert!(matches!(verdict, Verdict::Ignored(_)), "{name}: {verdict:?}");
    }
}

#[test]
fn a_push_that_cannot_be_read_refreshes() {
    for body in [&b""[..], b"{", b"[]", b"{}", br#"{"ref":1}"#, b"\xff", br#"{"push":[]}"#] {
        let delivery = parse(&[("x-github-event", "push")], body);
        assert_eq!(concerns("main", &delivery), Verdict::Refresh, "{body:?}");
    }
    assert_eq!(concerns("main", &parse(&[], b"anything")), Verdict::Refresh);
}

proptest! {
    #[test]
    fn any_body_is_read(body in prop::collection::vec(any::<u8>(), 0..200), name in "[a-z:_ ]{0,12}") {
        for headers in [&[("x-github-event", name.as_str())][..], &[]] {
            match parse(headers, &body).event {
                Event::Push(changes) => prop_assert!(!changes.is_empty()),
                Event::Ping | Event::Other(_) | Event::Unreadable => {}
            }
        }
    }
}
