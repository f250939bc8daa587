//! Graphs that grow while they run.

use mayfly_flow::{DagConfig, DagError, NodeOutput, NodeSpec, StartOptions};
use serde_json::{Value, json};

use crate::site::{Site, quick, states};

#[tokio::test(start_paused = true)]
async fn case_13_regression_15_19_nodes_added_by_a_repeated_attempt_run_once() {
    let site = Site::in_memory(quick()).await;
    site.add("grow", |ctx| {
        Box::pin(async move {
            let spec = |id: &str, dep: &str| NodeSpec::new("ok").with_id(id).with_dep(dep);
            let node = ctx.node_id.clone();
            ctx.add_nodes(vec![spec("x", &node), spec("y", "x")]).await?;
            if ctx.attempt == 1 {
                anyhow::bail!("after growing");
            }
            Ok(NodeOutput::success_empty())
        })
    });
    let report = site.run("name: g\nnodes: [{id: a, action: grow}]").await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(site.notes.all(), ["x", "y"]);
}

#[tokio::test(start_paused = true)]
async fn case_13_one_bad_node_adds_none() {
    let site = Site::in_memory(quick()).await;
    let name =
        site.executor.load_yaml("name: g\nnodes: [{id: a, action: human_interrupt}]").unwrap();
    let run = site.executor.start(&name, Value::Null, StartOptions::default()).await.unwrap();
    let spec =
        |id: &str, deps: &[&str]| NodeSpec::new("ok").with_id(id).with_deps(deps.iter().copied());
    let add = |nodes: Vec<NodeSpec>| site.executor.add_nodes_atomic(&run, nodes);
    let error = add(vec![spec("x", &["a"]), spec("y", &["nobody"])]).await.unwrap_err();
    assert!(matches!(error, DagError::DependencyNotFound(_)), "{error}");
    let error = add(vec![spec("x", &["y"]), spec("y", &["x"])]).await.unwrap_err();
    assert!(matches!(error, DagError::InvalidGraph(_)), "{error}");
    let error = add(vec![spec("x", &["a"]), NodeSpec::new("nope").with_id("y")]).await.unwrap_err();
    assert!(matches!(error, DagError::ActionNotRegistered(_)), "{error}");
    let error = add(vec![spec("x", &["a"]), NodeSpec::new("ok").with_id("a")]).await.unwrap_err();
    assert!(matches!(error, DagError::NodeAlreadyExists(_)), "{error}");
    assert!(!site.executor.node_exists(&run, "x").await.unwrap());
    assert_eq!(add(vec![spec("x", &["a"])]).await.unwrap(), ["x"]);
    assert!(add(vec![spec("x", &["a"])]).await.unwrap().is_empty());
    site.executor.set_node_inputs_json(&run, "x", json!({ "n": 1 })).await.unwrap();
    site.executor.require_dep(&run, "x").await.unwrap();
    assert!(site.executor.require_dep(&run, "z").await.is_err());
    site.executor.approve(&run, "a", Value::Null).await.unwrap();
    assert!(site.executor.wait_run(&run).await.unwrap().success);
    let output = site.executor.get_node_output_json(&run, "x").await.unwrap().unwrap();
    assert_eq!(output["n"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_reviewed_every_few_steps() {
    let config = DagConfig { review_frequency: Some(2), ..quick() };
    let site = Site::in_memory(config).await;
    let notes = site.notes.clone();
    site.add("supervisor_step", move |ctx| {
        notes.note(&ctx.node_id);
        Box::pin(async move {
            let step: u32 = ctx.get_input_opt("step")?.unwrap_or(1);
            if step < 5 {
                let next = NodeSpec::new("supervisor_step")
                    .with_id(format!("step{}", step + 1))
                    .with_dep(&ctx.node_id)
                    .with_inputs(json!({ "step": step + 1 }));
                ctx.add_nodes(vec![next]).await?;
            }
            Ok(NodeOutput::success_empty())
        })
    });
    let executor = site.executor.clone();
    let running = tokio::spawn(async move {
        let (_keep, cancel) = tokio::sync::oneshot::channel();
        executor.execute_agent_dag("agent", &mayfly_flow::Cache::new(), cancel).await
    });
    for (review, before) in [("review_2", "supervisor_start"), ("review_4", "step3")] {
        site.until_began(before, 1).await;
        while site.executor.approve("agent", review, Value::Null).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    let report = running.await.unwrap().unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(site.notes.all(), ["supervisor_start", "step2", "step3", "step4", "step5"]);
    assert_eq!(states(&report).len(), 7);
}
