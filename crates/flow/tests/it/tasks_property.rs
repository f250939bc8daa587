//! Any graph of tasks with any failures ends as a pure prediction says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mayfly_flow::{
    AgentError, NewTaskSpec, TaskAgent, TaskContext, TaskId, TaskStatus, async_trait,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::tasks_site::{Desk, fast};

/// What one task is made of.
#[derive(Clone, Debug)]
struct Piece {
    /// Earlier tasks that it depends on from the beginning.
    before: Vec<usize>,
    /// Earlier tasks that it finds out about while it runs.
    found: Vec<usize>,
    /// How often it fails before it succeeds.
    fails: u32,
    /// Whether a failure is the last one.
    permanent: bool,
    priority: i64,
}

const RETRIES: u32 = 2;

/// A piece before it is known which tasks there are.
type Rough = (Vec<Index>, Vec<Index>, u32, bool, i64);

fn piece(at: usize, (before, found, fails, permanent, priority): Rough) -> Piece {
    let pick = |all: Vec<Index>| -> Vec<usize> {
        if at == 0 { Vec::new() } else { all.iter().map(|one| one.index(at)).collect() }
    };
    Piece { before: pick(before), found: pick(found), fails, permanent, priority }
}

fn plans() -> impl Strategy<Value = (Vec<Piece>, usize)> {
    let rough = (
        prop::collection::vec(any::<Index>(), 0..3),
        prop::collection::vec(any::<Index>(), 0..2),
        prop_oneof![4 => Just(0_u32), 1 => 1_u32..5],
        prop::bool::weighted(0.1),
        -2_i64..3,
    );
    (prop::collection::vec(rough, 1..25), 1_usize..6).prop_map(|(pieces, workers)| {
        let pieces = pieces.into_iter().enumerate();
        (pieces.map(|(at, rough)| piece(at, rough)).collect(), workers)
    })
}

/// Status and number of failed attempts of each task.
fn predicted(pieces: &[Piece]) -> Vec<(TaskStatus, u32)> {
    let mut ends: Vec<(TaskStatus, u32)> = Vec::new();
    for piece in pieces {
        let broken = |at: &usize| ends[*at].0 == TaskStatus::Failed;
        // What it needs failed, whether it knew that from the beginning or learnt it while it ran.
        let end = if piece.before.iter().chain(&piece.found).any(broken) {
            (TaskStatus::Failed, 0)
        } else if piece.permanent && piece.fails > 0 {
            (TaskStatus::Failed, 1)
        } else if piece.fails <= RETRIES {
            (TaskStatus::Completed, piece.fails)
        } else {
            (TaskStatus::Failed, RETRIES + 1)
        };
        ends.push(end);
    }
    ends
}

struct Player {
    pieces: Vec<Piece>,
    failed: Vec<AtomicU32>,
    running: AtomicU32,
    most: AtomicU32,
    ids: Mutex<HashMap<usize, TaskId>>,
}

#[async_trait]
impl TaskAgent for Player {
    fn name(&self) -> String {
        "player".to_owned()
    }

    async fn execute(&self, input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let answer = self.play(&input, &ctx).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        answer.map(|()| input)
    }
}

impl Player {
    async fn play(&self, input: &[u8], ctx: &TaskContext) -> Result<(), AgentError> {
        let at: usize = String::from_utf8_lossy(input).parse().unwrap();
        let piece = &self.pieces[at];
        let found: Vec<TaskId> = {
            let ids = self.ids.lock().unwrap();
            piece.found.iter().map(|at| ids[at]).collect()
        };
        ctx.wait_for(&found).await?;
        if self.failed[at].load(Ordering::SeqCst) < piece.fails {
            self.failed[at].fetch_add(1, Ordering::SeqCst);
            let error = "as planned".to_owned();
            let permanent = piece.permanent;
            return Err(if permanent {
                AgentError::User(error)
            } else {
                AgentError::System(error)
            });
        }
        Ok(())
    }
}

async fn play(pieces: Vec<Piece>, workers: usize) {
    let desk = Desk::in_memory(fast().workers(workers)).await;
    let player = Arc::new(Player {
        failed: pieces.iter().map(|_| AtomicU32::new(0)).collect(),
        pieces: pieces.clone(),
        running: AtomicU32::new(0),
        most: AtomicU32::new(0),
        ids: Mutex::default(),
    });
    let mut ids: Vec<TaskId> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let spec = NewTaskSpec {
            dependencies: piece.before.iter().map(|at| ids[*at]).collect(),
            max_retries: Some(RETRIES),
            priority: piece.priority,
            ..NewTaskSpec::new("player", at.to_string())
        };
        let id = desk.system.create_task(spec).await.unwrap();
        player.ids.lock().unwrap().insert(at, id);
        ids.push(id);
    }
    desk.system.register(player.clone()).unwrap();
    for (at, expected) in predicted(&pieces).into_iter().enumerate() {
        let task = desk.system.wait(ids[at]).await.unwrap();
        let failed = player.failed[at].load(Ordering::SeqCst);
        assert_eq!((task.status, failed), expected, "task {at}: {task:?}");
        assert!(task.unmet == 0 || task.status == TaskStatus::Failed, "task {at}");
    }
    assert!(player.most.load(Ordering::SeqCst) <= u32::try_from(workers).unwrap());
    // Every change was legal and told, in order, with rising versions.
    let mut last: HashMap<i64, (String, i64)> = HashMap::new();
    for event in desk.system.outbox(1_000).await.unwrap() {
        let told: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let name = told["status"].as_str().unwrap().to_owned();
        let version = told["version"].as_i64().unwrap();
        let task = told["task_id"].as_i64().unwrap();
        if let Some((before, number)) = last.insert(task, (name.clone(), version)) {
            assert_eq!(told["from"].as_str(), Some(before.as_str()));
            assert_eq!(version, number + 1);
            let status = |name: &str| TaskStatus::from_name(name).unwrap();
            assert!(status(&before).can_become(status(&name)), "{before} -> {name}");
        }
    }
    assert_eq!(last.len(), pieces.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_graph_of_tasks_ends_as_predicted((pieces, workers) in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(pieces, workers));
    }
}
