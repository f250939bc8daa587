//! What runs when: dependencies, parallel work, priorities, values that go from node to node.

use std::time::Duration;

use mayfly_flow::{
    Cache, DagConfig, DagError, NodeOutput, RunStatus, StartOptions, get_input, insert_value,
};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::site::{Site, quick, states};

#[tokio::test(start_paused = true)]
async fn case_02_regression_01_independent_nodes_run_once_each_side_by_side() {
    let site = Site::in_memory(DagConfig::default()).await;
    let began = Instant::now();
    let report = site
        .run(
            "name: three\nnodes:\n  - {id: a, action: sleep, values: {ms: 20}}\n  - {id: b, action: sleep, values: {ms: 20}}\n  - {id: c, action: sleep, values: {ms: 300}}\n  - {id: d, action: sleep, dependencies: [a, b], values: {ms: 20}}\n",
        )
        .await
        .unwrap();
    assert!(report.overall_success && report.success, "{report:?}");
    assert_eq!(site.notes.counts().values().copied().collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert!(began.elapsed() <= Duration::from_millis(320), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_parallel_work_one_node_runs_at_a_time_by_priority_then_declaration() {
    let config = DagConfig { enable_parallel_execution: false, ..DagConfig::default() };
    let site = Site::in_memory(config).await;
    let yaml = "name: p\nnodes:\n  - {id: low, action: ok}\n  - {id: high, action: ok, priority: 9}\n  - {id: first, action: ok, priority: 1}\n  - {id: second, action: ok, priority: 1}\n";
    site.run(yaml).await.unwrap();
    assert_eq!(site.notes.all(), ["high", "first", "second", "low"]);
}

#[tokio::test(start_paused = true)]
async fn regression_04_many_roots_run_within_the_limit() {
    let site = Site::in_memory(DagConfig { max_parallel_nodes: 7, ..quick() }).await;
    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (now, top) = (running.clone(), most.clone());
    site.add("count", move |_| {
        let (now, top) = (now.clone(), top.clone());
        Box::pin(async move {
            use std::sync::atomic::Ordering::SeqCst;
            top.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, SeqCst);
            Ok(NodeOutput::success_empty())
        })
    });
    let roots: Vec<String> = (0..120).map(|n| format!("{{id: n{n}, action: count}}")).collect();
    let roots = roots.join(", ");
    let report = site.run(&format!("name: wide\nnodes: [{roots}]")).await.unwrap();
    assert!(report.success);
    assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn values_go_from_node_to_node_and_to_the_caller() {
    let site = Site::in_memory(quick()).await;
    site.add("make", |ctx| {
        Box::pin(async move {
            insert_value(&ctx.cache, &ctx.node_id, "list", json!([1, { "deep": "x" }]))?;
            Ok(NodeOutput::success(json!({ "told": ctx.get_input::<String>("text")? })))
        })
    });
    let yaml = "name: v\nnodes:\n  - id: a\n    action: make\n    inputs: [{name: text}]\n  - id: b\n    action: ok\n    dependencies: [a]\n    inputs: [{name: x, reference: a.list.1.deep}, {name: y, reference: a.told}, {name: z, reference: a.no, default: 7}]\n";
    let name = site.executor.load_yaml(yaml).unwrap();
    let cache = Cache::new();
    insert_value(&cache, "inputs", "text", "hello").unwrap();
    let (_keep, cancel) = oneshot::channel();
    let report = site.executor.execute_static_dag(&name, &cache, cancel).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(get_input::<String>(&cache, "b", "x").unwrap(), "x");
    assert_eq!(get_input::<String>(&cache, "b", "y").unwrap(), "hello");
    assert_eq!(get_input::<i32>(&cache, "b", "z").unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_input_without_value_fails_its_node_without_another_attempt() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: v\nnodes:\n  - id: a\n    action: ok\n    inputs: [{name: text}]\n";
    let report = site.run(yaml).await.unwrap();
    assert!(site.notes.all().is_empty());
    assert!(report.node_outcomes[0].final_error.as_ref().unwrap().contains("inputs.text"));
}

#[tokio::test(start_paused = true)]
async fn unregistered_actions_are_listed_before_anything_runs() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: u\nnodes:\n  - {id: a, action: ok}\n  - {id: b, action: zed}\n  - {id: c, action: nope}\n";
    let error = site.run(yaml).await.unwrap_err();
    assert!(
        matches!(&error, DagError::ActionNotRegistered(names) if names == "nope, zed"),
        "{error}"
    );
    assert!(site.notes.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_fans_out_over_a_list_and_is_joined_in_its_order() {
    let site = Site::in_memory(DagConfig { max_parallel_nodes: 3, ..quick() }).await;
    site.add("list", |_| {
        Box::pin(async { Ok(NodeOutput::success(json!({ "items": [30, 10, 20], "none": [] }))) })
    });
    site.add("double", |ctx| {
        Box::pin(async move {
            let item: u64 = ctx.get_input("item")?;
            tokio::time::sleep(Duration::from_millis(item)).await;
            Ok(NodeOutput::success(json!({ "twice": item * 2 })))
        })
    });
    let yaml = "name: f\nnodes:\n  - {id: a, action: list}\n  - {id: b, action: double, dependencies: [a], for_each: a.items}\n  - {id: e, action: double, dependencies: [a], for_each: a.none, outputs: [{name: twice}]}\n  - id: c\n    action: ok\n    dependencies: [b, e]\n    inputs: [{name: all, reference: b.twice}, {name: nothing, reference: e.twice}]\n";
    let name = site.executor.load_yaml(yaml).unwrap();
    let (cache, (_keep, cancel)) = (Cache::new(), oneshot::channel());
    let report = site.executor.execute_static_dag(&name, &cache, cancel).await.unwrap();
    assert!(report.success, "{report:?}");
    assert_eq!(get_input::<Vec<u64>>(&cache, "c", "all").unwrap(), [60, 20, 40]);
    assert_eq!(get_input::<Vec<u64>>(&cache, "c", "nothing").unwrap(), Vec::<u64>::new());
    let keys: Vec<&str> = report
        .node_outcomes
        .iter()
        .filter(|outcome| outcome.node_id == "b")
        .map(|outcome| outcome.invocation_key.as_str())
        .collect();
    assert_eq!(keys, ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_false_condition_skips_the_node_and_what_needs_it_unless_that_runs_always() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: w\nnodes:\n  - {id: a, action: ok, values: {n: 3}}\n  - {id: b, action: ok, dependencies: [a], when: a.n > 5}\n  - {id: c, action: ok, dependencies: [b]}\n  - {id: d, action: ok, dependencies: [b], always: true}\n  - {id: e, action: ok, dependencies: [a], when: a.n == 3}\n";
    let report = site.run(yaml).await.unwrap();
    assert_eq!(site.notes.all(), ["a", "d", "e"]);
    let states = states(&report);
    assert_eq!((states["b"], states["c"]), ("skipped", "skipped"));
    assert!(report.success, "a condition is no failure: {report:?}");
}

#[tokio::test(start_paused = true)]
async fn case_09_two_runs_never_share_values_and_equal_steps_are_reused_when_asked() {
    let site = Site::in_memory(quick()).await;
    let yaml = "name: r\nnodes:\n  - id: a\n    action: ok\n    inputs: [{name: x}]\n";
    let name = site.executor.load_yaml(yaml).unwrap();
    let start = |n: i32, config: DagConfig| {
        let options = StartOptions { config: Some(config), ..StartOptions::default() };
        site.executor.start(&name, json!({ "x": n }), options)
    };
    let (one, two) = tokio::join!(start(1, quick()), start(2, quick()));
    let (one, two) = (one.unwrap(), two.unwrap());
    site.executor.wait_run(&one).await.unwrap();
    site.executor.wait_run(&two).await.unwrap();
    let out = |run: String| {
        let executor = site.executor.clone();
        async move { executor.get_node_output_json(&run, "a").await.unwrap().unwrap()["x"].clone() }
    };
    assert_eq!((out(one).await, out(two).await), (json!(1), json!(2)));
    let reuse = DagConfig { reuse_cached_outputs: true, ..quick() };
    let mut ran = Vec::new();
    for n in [5, 5, 6] {
        let before = site.notes.all().len();
        let run = start(n, reuse.clone()).await.unwrap();
        let report = site.executor.wait_run(&run).await.unwrap();
        assert!(report.success);
        assert_eq!(out(run).await, json!(n));
        ran.push(site.notes.all().len() - before);
    }
    assert_eq!(ran, [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_flow_runs_as_a_node_of_another() {
    let site = Site::in_memory(quick()).await;
    site.executor
        .load_yaml("name: inner\nnodes:\n  - id: x\n    action: ok\n    inputs: [{name: n}]\n")
        .unwrap();
    let yaml = "name: outer\nnodes:\n  - {id: a, flow: inner, values: {n: 4}}\n  - id: b\n    action: ok\n    dependencies: [a]\n    inputs: [{name: got, reference: a.x.n}]\n";
    let report = site.run(yaml).await.unwrap();
    assert!(report.success, "{report:?}");
    let output = site.executor.get_node_output_json(&report.run_id, "b").await.unwrap().unwrap();
    assert_eq!(output["got"], json!(4));
    let runs =
        site.executor.list_runs(Some(RunStatus::Completed), Some("inner"), 10).await.unwrap();
    assert_eq!(runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_or_key_starts_one_run() {
    let site = Site::in_memory(quick()).await;
    site.executor.load_yaml("name: once\nnodes: [{id: a, action: ok}]").unwrap();
    let with = |run: Option<&str>, key: Option<&str>| StartOptions {
        run_id: run.map(Into::into),
        idempotency_key: key.map(Into::into),
        ..StartOptions::default()
    };
    let first = site.executor.start("once", json!({}), with(None, Some("k"))).await.unwrap();
    let second = site.executor.start("once", json!({}), with(None, Some("k"))).await.unwrap();
    assert_eq!(first, second);
    for _ in 0..2 {
        assert_eq!(
            site.executor.start("once", json!({}), with(Some("mine"), None)).await.unwrap(),
            "mine"
        );
    }
    site.executor.wait_run(&first).await.unwrap();
    site.executor.wait_run("mine").await.unwrap();
    assert_eq!(site.notes.all().len(), 2);
}
