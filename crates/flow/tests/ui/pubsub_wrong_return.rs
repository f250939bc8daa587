//! An agent that returns what cannot be published.

use mayfly_flow::{Message, pubsub_agent};

#[pubsub_agent(subscribe = "a", publish = "b")]
async fn agent(_message: Message) -> anyhow::Result<u64> {
    Ok(1)
}

fn main() {}
