//! A schema that is not JSON, and an argument that there is not.

use mayfly_flow::{Message, pubsub_agent};

#[pubsub_agent(subscribe = "a", input_schema = "{type: object}")]
async fn first(_message: Message) -> anyhow::Result<()> {
    Ok(())
}

#[pubsub_agent(subscribes = "a")]
async fn second(_message: Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
