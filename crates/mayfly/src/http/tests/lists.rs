//! Lists over the store that is shipped, while sandboxes go away.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use mayfly_store::SqliteStore;
use mayfly_testkit::World;
use serde_json::{Value, json};

use super::Edge;
use crate::http::app::Options;

async fn edge() -> (tempfile::TempDir, Edge) {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::new(7));
    let store = SqliteStore::open(&folder.path().join("state.db"), &*world.clock).unwrap();
    let edge = Edge::over(world, Arc::new(store), Options::default()).await;
    (folder, edge)
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn d17_a_list_of_a_thousand_during_deletes_gives_none_twice_and_loses_no_survivor() {
    let (_folder, edge) = edge().await;
    let mut made = Vec::new();
    for _ in 0..1000 {
        made.push(edge.sandbox().await);
    }
    // Every third goes away while the pages are read.
    let doomed: Vec<String> = made.iter().step_by(3).cloned().collect();
    let survivors: BTreeSet<String> =
        made.iter().filter(|id| !doomed.contains(id)).cloned().collect();
    let (killer, victims) = (edge.clone(), doomed.clone());
    let deletes = tokio::spawn(async move {
        for id in victims {
            let gone = killer.call("DELETE", &format!("/api/sandbox/{id}"), "").await;
            assert_eq!(gone.status, StatusCode::OK);
        }
    });
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for round in 0.. {
        assert!(round < 100, "the list has an end");
        let page = edge.get(&format!("/api/sandbox?limit=25&cursor={cursor}")).await.json();
        seen.extend(ids(&page));
        tokio::task::yield_now().await;
        match &page["nextCursor"] {
            Value::String(next) => cursor.clone_from(next),
            end => {
                assert!(end.is_null());
                break;
            }
        }
    }
    deletes.await.unwrap();
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "one came twice");
    assert!(
        survivors.is_subset(&once),
        "{} survivors are missing",
        survivors.difference(&once).count()
    );
    let after = edge.get("/api/sandbox/paginated?limit=200").await.json();
    assert_eq!(after["total"], survivors.len());
}

/// Names that a query finds, the same in both forms.
async fn found(edge: &Edge, query: &str) -> String {
    let mut both = Vec::new();
    for form in ["/api/sandbox", "/api/sandbox/paginated"] {
        let page = edge.get(&format!("{form}?{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{query}: {page:?}");
        let page = page.json();
        let items = page["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["name"].as_str().unwrap().to_owned());
        both.push(names.collect::<Vec<_>>().join(" "));
    }
    assert_eq!(both[0], both[1], "{query}");
    both.remove(0)
}

#[tokio::test]
async fn every_filter_and_order_reaches_the_store() {
    let (_folder, edge) = edge().await;
    let make = async |body: Value| {
        let made = edge.call("POST", "/api/sandbox", &body.to_string()).await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}");
        // So that times differ.
        edge.world.clock.advance(std::time::Duration::from_mins(1));
    };
    make(json!({ "name": "Alpha", "cpu": 1, "memory": 4, "disk": 3, "labels": { "a": "1" } }))
        .await;
    make(
        json!({ "name": "alps", "cpu": 2, "memory": 2, "disk": 9, "public": true, "target": "eu" }),
    )
    .await;
    make(json!({ "name": "beta", "cpu": 4, "memory": 1, "disk": 5, "ttlMinutes": 600, "labels": { "a": "1", "b": "2" } })).await;
    edge.call("POST", "/api/sandbox/beta/stop", "").await;
    let second =
        edge.get("/api/sandbox/alps").await.json()["createdAt"].as_str().unwrap().to_owned();
    let id = edge.get("/api/sandbox/beta").await.json()["id"].as_str().unwrap().to_owned();
    for (query, names) in [
        ("", "beta alps Alpha"),
        ("order=asc", "Alpha alps beta"),
        ("sort=name&order=asc", "Alpha alps beta"),
        ("sort=cpu", "beta alps Alpha"),
        ("sort=memoryGib", "Alpha alps beta"),
        ("sort=diskGib", "alps beta Alpha"),
        ("sort=lastActivityAt&order=asc", "Alpha alps beta"),
        (&format!("id={id}"), "beta"),
        ("name=AL", "alps Alpha"),
        ("labels=%7B%22a%22%3A%221%22%7D", "beta Alpha"),
        ("labels=%7B%22a%22%3A%221%22%2C%22b%22%3A%222%22%7D", "beta"),
        ("states=stopped", "beta"),
        ("states=started&states=stopped", "beta alps Alpha"),
        ("states=started,archived", "alps Alpha"),
        ("states=build_failed", ""),
        ("snapshots=host", "beta alps Alpha"),
        ("snapshots=other", ""),
        ("regionIds=eu", "alps"),
        ("sandboxClasses=container", "beta alps Alpha"),
        ("sandboxClasses=linux-vm", ""),
        ("minCpu=2&maxCpu=2", "alps"),
        ("minMemoryGiB=2", "alps Alpha"),
        ("maxDiskGiB=5", "beta Alpha"),
        ("minGpu=1", ""),
        ("maxGpu=0", "beta alps Alpha"),
        ("isPublic=true", "alps"),
        ("isRecoverable=true", ""),
        (&format!("createdAtAfter={second}"), "beta alps"),
        (&format!("createdAtBefore={second}"), "alps Alpha"),
        (&format!("lastEventBefore={second}"), "alps Alpha"),
        ("lastEventAfter=2100-01-01T00:00:00Z", ""),
        ("autoDestroyAtBefore=2100-01-01T00:00:00Z", "beta"),
        ("autoDestroyAtAfter=2100-01-01T00:00:00Z", ""),
        ("includeErroredDeleted=true&includeWarm=true", "beta alps Alpha"),
    ] {
        assert_eq!(found(&edge, query).await, names, "{query}");
    }
}

#[tokio::test]
async fn bad_filters_name_their_field_in_both_forms() {
    let (_folder, edge) = edge().await;
    for _ in 0..3 {
        edge.sandbox().await;
    }
    for form in ["/api/sandbox", "/api/sandbox/paginated"] {
        for query in [
            "limit=0",
            "limit=201",
            "labels=%5B%5D",
            "states=asleep",
            "sort=age",
            "order=up",
            "minCpu=-1",
            "isPublic=2",
            "createdAtAfter=now",
            "sandboxClasses=boat",
        ] {
            let (status, _, message) = edge.get(&format!("{form}?{query}")).await.fault();
            let field = query.split('=').next().unwrap();
            assert!(status == 400 && message.starts_with(field), "{query}: {message}");
        }
    }
    assert_eq!(edge.get("/api/sandbox?cursor=t.1.x").await.fault().0, 400);
    assert_eq!(edge.get("/api/sandbox/paginated?page=0").await.fault().0, 400);
    let far = edge.get("/api/sandbox/paginated?page=9&limit=2").await.json();
    assert_eq!(
        (&far["total"], &far["totalPages"], far["items"].as_array().unwrap().len()),
        (&json!(3), &json!(2), 0)
    );
}
