//! An agent that is no async function.

use mayfly_flow::{Message, pubsub_agent};

#[pubsub_agent(subscribe = "a")]
fn agent(_message: Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
