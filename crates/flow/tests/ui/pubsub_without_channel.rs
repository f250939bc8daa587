//! An agent that takes nothing.

use mayfly_flow::{Message, pubsub_agent};

#[pubsub_agent(publish = "b")]
async fn agent(_message: Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
