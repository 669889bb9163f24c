//! The servers the other tests stand on.

use hostler_tests::servers::nginx::{Nginx, Vhost};
use hostler_tests::servers::php::PhpFpm;
use hostler_tests::servers::redis::Redis;
use hostler_tests::servers::{directory, write};

#[test]
fn nginx_serves_php_through_a_vhost_that_includes_our_files() {
    let nginx = Nginx::start("").unwrap();
    let php = PhpFpm::start(2).unwrap();
    let site = directory("site").unwrap();
    write(&site.path().join("index.php"), "<?php echo 'made at ', hrtime(true);").unwrap();
    let vhost = Vhost {
        domain: "shop.test",
        docroot: site.path(),
        php_socket: &php.socket,
        hostler_dir: &site.path().join("nginx"),
        server_lines: "",
        location_lines: "",
        tls: None,
    };
    nginx.add_vhost(&vhost).unwrap();
    let answer = nginx.get("shop.test", "/").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}\n{}", nginx.error_log());
    assert!(answer.body.starts_with("made at "), "{answer:?}");
}

#[test]
fn redis_asks_for_its_password() {
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let mut connection = redis.connect().unwrap();
    let pong: String = redis::cmd("PING").query(&mut connection).unwrap();
    assert_eq!(pong, "PONG");
    let stranger = redis::Client::open(format!("redis://127.0.0.1:{}/0", redis.port)).unwrap();
    let refused = redis::cmd("PING").query::<String>(&mut stranger.get_connection().unwrap());
    assert!(refused.is_err(), "redis let somebody in without a password");
}
