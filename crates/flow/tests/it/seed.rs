//! The seed's listings, as they stand.

use anyhow::Result;
use mayfly_flow::{
    Cache, DagConfig, DagError, DagExecutor, Node, OnFailure, RetryStrategy, SqliteStorage,
    insert_value, parse_input_from_name, register_action,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

#[expect(clippy::unused_async, reason = "the form that function actions have")]
async fn process_data(_executor: &mut DagExecutor, node: &Node, cache: &Cache) -> Result<()> {
    // Get inputs
    let input: String = parse_input_from_name(cache, "data", &node.inputs)?;

    // Process
    let result = input.to_uppercase();

    // Store output
    insert_value(cache, &node.id, "result", result)?;

    Ok(())
}

#[mayfly_flow::action(
    input_schema = r#"{"type": "object", "properties": {"text": {"type": "string"}}}"#,
    output_schema = r#"{"type": "object", "properties": {"result": {"type": "string"}}}"#
)]
async fn transform_text(input: Value) -> Result<Value> {
    let text = input["text"].as_str().unwrap();
    Ok(json!({"result": text.to_uppercase()}))
}

#[tokio::test]
async fn case_01_function_actions_register_and_run() {
    let config = DagConfig {
        enable_parallel_execution: true,
        max_parallel_nodes: 4,
        max_attempts: Some(3),
        timeout_seconds: Some(3600),
        retry_strategy: RetryStrategy::Exponential {
            initial_delay_secs: 5,
            max_delay_secs: 300,
            multiplier: 2.0,
        },
        on_failure: OnFailure::Continue,
        ..Default::default()
    };
    let registry = mayfly_flow::ActionRegistry::new();
    let executor = DagExecutor::new(Some(config), registry, "sqlite::memory:").await.unwrap();
    register_action!(executor, "process_data", process_data);
    register_action!(executor, "again", process_data).await.unwrap();
    executor.register(transform_text()).unwrap();
    let yaml = "name: workflow\nnodes:\n  - id: a\n    action: process_data\n    inputs: [{name: data, reference: inputs.data}]\n  - id: b\n    action: transform_text\n    dependencies: [a]\n    inputs: [{name: text, reference: a.result}]\n";
    executor.load_yaml(yaml).unwrap();
    let cache = Cache::new();
    insert_value(&cache, "inputs", "data", "hello").unwrap();
    let (_keep, cancel_rx) = oneshot::channel();
    match executor.execute_static_dag("workflow", &cache, cancel_rx).await {
        Ok(report) => assert!(report.overall_success, "{report:?}"),
        Err(DagError::ExecutionTimeout(msg)) => panic!("Timeout: {msg}"),
        Err(DagError::ValidationError(msg)) => panic!("Invalid: {msg}"),
        Err(e) => panic!("Error: {e}"),
    }
    let result: String = mayfly_flow::get_input(&cache, "b", "result").unwrap();
    assert_eq!(result, "HELLO");
    let dot = executor.serialize_tree_to_dot("workflow").await.unwrap();
    assert!(dot.starts_with("digraph"));
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_error_now_or_at_the_next_run() {
    let registry = mayfly_flow::ActionRegistry::new();
    let executor = DagExecutor::new(None, registry, "sqlite::memory:").await.unwrap();
    register_action!(executor, "x", process_data).await.unwrap();
    assert!(register_action!(executor, "x", process_data).await.is_err());
    executor.load_yaml("name: w\nnodes: [{id: a, action: x}]").unwrap();
    register_action!(executor, "x", process_data);
    let (_keep, cancel) = oneshot::channel();
    let error = executor.execute_static_dag("w", &Cache::new(), cancel).await.unwrap_err();
    assert!(error.to_string().contains("registered already"), "{error}");
}

#[tokio::test]
async fn schemas_of_actions_are_enforced_without_another_attempt() {
    let registry = mayfly_flow::ActionRegistry::new();
    let executor = DagExecutor::new(None, registry, "sqlite::memory:").await.unwrap();
    executor.register(transform_text()).unwrap();
    executor
        .load_yaml("name: w\nnodes: [{id: a, action: transform_text, values: {text: 5}}]")
        .unwrap();
    let (_keep, cancel) = oneshot::channel();
    let report = executor.execute_static_dag("w", &Cache::new(), cancel).await.unwrap();
    let outcome = &report.node_outcomes[0];
    assert_eq!(outcome.attempts, 1);
    assert!(outcome.final_error.as_ref().unwrap().contains("does not match its schema"));
}

#[tokio::test]
async fn artifacts_are_stored_and_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite:{}", folder.path().join("workflows.db").display());
    let storage = SqliteStorage::new(&url).await?;
    storage.init_database().await?;
    let data = "data";
    let artifact_id =
        storage.store_artifact(data.as_bytes(), "json", "run_123", "node_456").await?;
    let data = storage.get_artifact(&artifact_id).await?;
    assert_eq!(data, b"data");
    Ok(())
}

#[tokio::test]
async fn regression_17_a_folder_is_loaded_and_each_failure_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("a.yaml"),
        "name: a\nnodes: [{id: x, action: y}]\ntags: [one, two]",
    )
    .unwrap();
    std::fs::write(folder.path().join("b.yml"), "name: b\nnodes: []").unwrap();
    std::fs::write(folder.path().join("c.txt"), "no flow").unwrap();
    let registry = mayfly_flow::ActionRegistry::new();
    let executor = DagExecutor::new(None, registry, "sqlite::memory:").await.unwrap();
    let loaded = executor.load_yaml_dir(folder.path()).await.unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].1.as_ref().unwrap(), "a");
    assert!(loaded[1].1.as_ref().unwrap_err().to_string().contains("b.yml"));
    assert_eq!(executor.list_dags(), ["a"]);
    assert_eq!(executor.list_dag_filtered_tag("tw"), ["a"]);
    assert_eq!(executor.list_dag_multiple_tags(&["one", "two"]), ["a"]);
    assert!(executor.list_dag_multiple_tags(&["one", "three"]).is_empty());
    assert_eq!(executor.list_dags_metadata()[0].nodes, 1);
    assert_eq!(executor.compute_levels("a").unwrap(), [["x"]]);
}
