//! What the whole-system tests, the demo and the benchmarks share: real servers on loopback, and
//! whole Hostler systems made of real processes.

pub mod bench;
pub mod chaos;
pub mod rows;
pub mod servers;
pub mod sim;
pub mod system;
pub mod teller;
