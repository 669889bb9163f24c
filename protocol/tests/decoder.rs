//! The fuzz target's property over a bounded, repeatable set of bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/property.rs"]
mod property;

use hostler_protocol::codec;
use hostler_protocol::id::JobId;
use hostler_protocol::message::{AttemptRef, ToAgent, ToController};

/// A small generator (xorshift64*), so that every run sees the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let attempt = AttemptRef { job: JobId::from_parts(1, [1; 10]), attempt: 3 };
    let run = ToAgent::Run { attempt: attempt.clone(), timeout_secs: 9, spec: b"{}".to_vec() };
    let beat = ToController::Heartbeat { sequence: 1, running: vec![attempt.clone()] };
    let done = ToController::Finished { attempt, outcome: vec![b'x'; 300] };
    vec![
        codec::encode(&run).unwrap(),
        codec::encode(&beat).unwrap(),
        codec::encode(&done).unwrap(),
        vec![0xff; 16],
        vec![0; 16],
    ]
}

#[test]
fn any_bytes_are_survived() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let seeds = seeds();
    for _ in 0..20_000 {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        if random.below(4) == 0 {
            bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
        }
        for _ in 0..random.below(6) {
            let place = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[place] = u8::try_from(random.below(256)).unwrap(),
                1 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, u8::try_from(random.below(256)).unwrap()),
            }
        }
        property::decoder(&bytes);
    }
}
