//! Two agents with one identity.

use hostler_controller::domain::EventKind;
use hostler_controller::store::{EventFilter, Opening, StoreError};
use hostler_protocol::id::BootId;
use hostler_tests::rows;

use super::world::{NOW, World, controller, host};

pub(crate) async fn a_host_of_which_there_are_two_is_held(world: &World) {
    world.hosts(1).await;
    let row = async || world.store.host(&host(1).id).await.unwrap().unwrap();
    let open = |process: u8, welcomed: Option<u64>| {
        let boot = BootId::from_parts(1, [process; 10]);
        let opening = rows::opening(&host(1), &controller(1), NOW.plus_secs(9));
        world.store.session_open(Opening { boot, welcomed, ..opening })
    };
    // One agent restarts and reconnects as it likes.
    let first = open(1, None).await.unwrap();
    let second = open(1, Some(first)).await.unwrap();
    let third = open(2, None).await.unwrap();
    assert_eq!((second, third), (first + 1, first + 2));
    assert_eq!(row().await.held_at, None);
    // The one before comes back, and the other too: both have been welcomed since.
    let fourth = open(1, Some(second)).await.unwrap();
    let fifth = open(2, Some(third)).await.unwrap();
    assert_eq!(row().await.held_at, None, "a Hello may have been long on its way");
    let before = world.store.events_bounds().await.unwrap().1;
    let held = open(1, Some(fourth)).await;
    assert!(matches!(held, Err(StoreError::HostHeld { .. })), "{held:?}");
    let after = row().await;
    assert_eq!((after.held_at, after.connected), (Some(NOW.plus_secs(9)), false));
    let events = world.store.events_after(before, 10, &EventFilter::default()).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.event.kind).collect();
    assert_eq!(kinds, [EventKind::HostHeld]);
    for (process, welcomed) in [(2, Some(fifth)), (1, None), (3, None)] {
        let refused = open(process, welcomed).await;
        assert!(matches!(refused, Err(StoreError::HostHeld { .. })), "{refused:?}");
    }
    assert_eq!(row().await, after, "what is refused changes nothing");
}
