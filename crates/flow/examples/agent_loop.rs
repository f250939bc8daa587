//! An agent loop with dynamic tasks: a researcher asks searchers, looks at what they found, asks again, and reports.
//!
//! Kill it at any point and start it again with the same file: it goes on where it was.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use mayfly_flow::{
    AgentError, NewTaskSpec, Task, TaskContext, TaskSystem, TaskSystemBuilder, TaskType, task_agent,
};
use serde_json::{Value, json};

/// Finds something about one topic. A real one would ask a search engine.
#[task_agent(
    description = "finds facts about a topic",
    input_schema = r#"{"type": "object", "required": ["topic"]}"#
)]
async fn search(task: Task) -> Result<Value> {
    let topic = task.input_json()?["topic"].as_str().unwrap_or_default().to_owned();
    let mut related = Vec::new();
    if topic.len() > 3 {
        related.push(topic[..topic.len() / 2].to_owned());
    }
    Ok(json!({ "fact": format!("{topic} has {} letters", topic.len()), "related": related }))
}

/// Asks searchers round by round; each round's topics come from the answers of the one before.
#[task_agent(name = "research", description = "researches a topic")]
async fn research(input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
    let mut topics = vec![String::from_utf8_lossy(&input).into_owned()];
    let mut facts = Vec::new();
    for _round in 0..3 {
        let mut asked = Vec::new();
        for topic in topics.drain(..) {
            let spec = NewTaskSpec {
                task_type: TaskType::Subtask,
                ..NewTaskSpec::json("search", &json!({ "topic": topic }))
            };
            asked.push(ctx.handle().spawn_task(spec).await?);
        }
        // Frees the worker. When the answers are there, this function runs again and gets the same tasks here.
        ctx.wait_for(&asked).await?;
        for id in asked {
            let output = ctx.dependency_output(id).await?.unwrap_or_default();
            let answer: Value = serde_json::from_slice(&output)
                .map_err(|error| AgentError::System(error.to_string()))?;
            facts.push(answer["fact"].as_str().unwrap_or_default().to_owned());
            let related = answer["related"].as_array().into_iter().flatten();
            topics.extend(related.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    Ok(facts.join("; ").into())
}

async fn run(url: &str) -> Result<String> {
    let builder = TaskSystemBuilder::development().agent(search())?.agent(research())?;
    let system: TaskSystem = builder.open(url).await?;
    // A second start with the same key gets the task of the first one.
    let spec = NewTaskSpec {
        task_type: TaskType::Objective,
        key: Some("mayflies".to_owned()),
        ..NewTaskSpec::new("research", "mayflies")
    };
    let id = system.submit(spec).await?;
    let task = system.wait(id).await?;
    system.stop().await;
    let output = task.output.ok_or_else(|| anyhow::anyhow!("{:?}", task.status_reason))?;
    Ok(String::from_utf8(output.to_vec())?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "sqlite::memory:".to_owned());
    println!("{}", run(&url).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_reports_what_all_rounds_found_and_the_same_when_it_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("research.db").display());
        let report = super::run(&url).await.unwrap();
        assert_eq!(report, "mayflies has 8 letters; mayf has 4 letters; ma has 2 letters");
        assert_eq!(super::run(&url).await.unwrap(), report);
    }
}
