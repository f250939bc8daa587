//! The seed's listings about tasks, and both forms of the attribute.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use mayfly_flow::{
    AgentError, NewTaskSpec, Storage, Task, TaskAgent, TaskContext, TaskId, TaskStatus, TaskSystem,
    TaskSystemBuilder, async_trait,
};
use serde_json::{Value, json};

/// Counts letters.
#[mayfly_flow::task_agent]
async fn count_letters(task: Task) -> Result<Value> {
    let input = task.input_json()?;
    let text = input["text"].as_str().ok_or_else(|| AgentError::User("no text".into()))?;
    Ok(json!({ "letters": text.len() }))
}

#[mayfly_flow::task_agent(
    name = "shout",
    description = "makes text loud",
    input_schema = r#"{"type": "string"}"#,
    output_schema = r#"{"type": "string", "minLength": 1}"#
)]
async fn loud(input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
    assert_eq!(ctx.task().input, input);
    Ok(String::from_utf8_lossy(&input).to_uppercase().into())
}

#[tokio::test]
async fn case_01_both_forms_of_agents_run_under_their_names_and_schemas() {
    let builder = TaskSystemBuilder::new().agent(count_letters()).unwrap().agent(loud()).unwrap();
    let system = builder.open("sqlite::memory:").await.unwrap();
    let described = [
        ("count_letters".to_owned(), String::new()),
        ("shout".to_owned(), "makes text loud".to_owned()),
    ];
    assert_eq!(system.agents().descriptions(), described);
    let run = async |agent: &str, input: Value| {
        let id = system.create_task(NewTaskSpec::json(agent, &input)).await?;
        system.wait(id).await
    };
    let task = run("count_letters", json!({ "text": "four" })).await.unwrap();
    assert_eq!(task.output_json().unwrap(), json!({ "letters": 4 }));
    let task = run("count_letters", json!({})).await.unwrap();
    assert_eq!((task.status, task.retries), (TaskStatus::Failed, 0));
    assert_eq!(task.status_reason.as_deref(), Some("no text"));
    let task = run("shout", json!("hey")).await.unwrap();
    assert_eq!(task.output_json().unwrap(), json!("HEY"));
    let task = run("shout", json!("")).await.unwrap();
    assert!(task.status_reason.unwrap().contains("output does not match its schema"));
    assert!(run("shout", json!(5)).await.is_err());
}

/// The seed's listing of dynamic dependencies, awaited.
struct Planner(tokio::sync::OnceCell<TaskSystem>);

impl Planner {
    async fn needs_more(&self, current_task_id: TaskId) -> Result<()> {
        let system = self.0.get().unwrap();
        // Task discovers it needs more data
        let new_task_id = system.create_task(NewTaskSpec::json("shout", &json!("x"))).await?;
        system.add_dependency(current_task_id, new_task_id).await?;
        system.update_status(current_task_id, TaskStatus::Blocked).await?;
        Ok(())
    }
}

#[async_trait]
impl TaskAgent for Planner {
    fn name(&self) -> String {
        "planner".to_owned()
    }

    async fn execute(&self, input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        if ctx.attempt() == 1 {
            self.needs_more(ctx.task_id()).await.unwrap();
        }
        Ok(input)
    }
}

#[tokio::test]
async fn case_23_the_listing_of_dynamic_dependencies_blocks_and_goes_on() {
    let builder = TaskSystemBuilder::new().agent(loud()).unwrap();
    let system = builder.open("sqlite::memory:").await.unwrap();
    let planner = Arc::new(Planner(tokio::sync::OnceCell::new()));
    planner.0.set(system.clone()).unwrap();
    system.register(planner).unwrap();
    let id = system.create_task(NewTaskSpec::new("planner", "plan")).await.unwrap();
    let task = system.wait(id).await.unwrap();
    assert_eq!((task.status, task.deliveries), (TaskStatus::Completed, 2), "{task:?}");
    let needed = system.dependencies(id).await.unwrap();
    assert_eq!(system.status(needed[0]).await.unwrap(), Some(TaskStatus::Completed));
    system.stop().await;
}

/// The port is an object, as the seed's code passes it around.
#[tokio::test]
async fn the_port_is_an_object() {
    let storage = mayfly_flow::SqliteStorage::new("sqlite::memory:").await.unwrap();
    let port: Arc<dyn Storage> = Arc::new(storage);
    assert!(port.get(TaskId(1)).await.unwrap().is_none());
}
