//! Stand-ins for the ports that tests can move, break and crash, and the contract suites that every adapter
//! runs from its `tests/` folder.

pub mod clock;
pub mod contract;
pub mod entropy;
pub mod fuse;
pub mod fuzz;
pub mod runtime;
pub mod sample;
pub mod store;
pub mod world;

pub use clock::SimClock;
pub use contract::runtime::runtime_contract;
pub use contract::store::store_contract;
pub use entropy::SeededEntropy;
pub use fuse::Fuse;
pub use runtime::{FakeRuntime, Verb};
pub use store::FakeStore;
pub use world::World;
