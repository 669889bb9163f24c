//! Two agents with one host's identity: neither is let in, until a person has seen to it.

use hostler_controller::views::Revocation;
use hostler_protocol::facts::with_welcomed;
use hostler_protocol::id::BootId;
use hostler_protocol::message::{Hello, ToController, close};

use super::agent::{Identity, Stream, close_code, dial, hello, new_host, session};
use super::{Controller, directory};

fn hello_of(process: u8, welcomed: Option<u64>) -> Hello {
    let plain = hello(&[], &[]);
    let boot = BootId::from_parts(1, [process; 10]);
    Hello { boot, facts: with_welcomed(br#"{"os":"test"}"#, welcomed), ..plain }
}

async fn refused_with(controller: &Controller, identity: &Identity, hello: Hello) -> u64 {
    let connection = dial(controller, identity).await;
    let mut control = Stream::open(&connection).await;
    control.send(&ToController::Hello(hello)).await;
    close_code(&connection).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_machine_is_noticed_and_neither_copy_is_let_in() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let host = identity.enrolled.host.clone();
    let mut welcomed = [None, None];
    let mut live = Vec::new();
    for turn in 0..4_usize {
        let process = u8::try_from(turn % 2).unwrap();
        let one = session(&controller, &identity, hello_of(process, welcomed[turn % 2])).await;
        welcomed[turn % 2] = Some(one.welcome.epoch);
        live.push(one);
    }
    let known = controller.host(&host).await;
    assert_eq!(known.facts, serde_json::json!({ "os": "test" }), "the epoch is no fact to keep");
    assert_eq!(known.held_at, None);
    let held = u64::from(close::HELD);
    assert_eq!(refused_with(&controller, &identity, hello_of(0, welcomed[0])).await, held);
    let last = live.pop().unwrap();
    assert_eq!(close_code(&last.connection).await, u64::from(close::REPLACED));
    assert_eq!(refused_with(&controller, &identity, hello_of(1, welcomed[1])).await, held);
    assert!(controller.host(&host).await.held_at.is_some());
    let told = controller.told(&host).await;
    assert_eq!(told.iter().filter(|kind| **kind == "host.held").count(), 1);
    controller.revoke(&host, Revocation::Evict).await;
    let again = new_host(&controller, "web-1").await;
    let fresh = session(&controller, &again, hello_of(0, None)).await;
    assert_eq!(fresh.welcome.epoch, 1, "enrolled anew it is another host");
    controller.stop().await;
}
