//! Agents and channels from outside, on a simulated clock.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_flow::{
    AgentError, DagError, Execution, Message, PubSubAgent, PubSubConfig, PubSubCtx, PubSubExecutor,
    SqliteStorage, StartAt, StorageOptions, async_trait,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sim::SimClock;

/// What an agent does with each message.
type Does = Box<dyn FnMut(&PubSubCtx, &Message) -> anyhow::Result<Vec<(String, Value)>> + Send>;

/// An agent made of a closure, which gives what is to be published.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) takes: Vec<&'static str>,
    pub(crate) gives: Vec<&'static str>,
    pub(crate) input: Option<Value>,
    pub(crate) start: StartAt,
    pub(crate) does: Does,
}

impl Made {
    pub(crate) fn new(
        name: &'static str,
        takes: &[&'static str],
        does: impl FnMut(&PubSubCtx, &Message) -> anyhow::Result<Vec<(String, Value)>> + Send + 'static,
    ) -> Self {
        let (takes, does) = (takes.to_vec(), Box::new(does));
        Self { name, takes, gives: Vec::new(), input: None, start: StartAt::Latest, does }
    }
}

#[async_trait]
impl PubSubAgent for Made {
    fn name(&self) -> String {
        self.name.to_owned()
    }
    fn subscriptions(&self) -> Vec<String> {
        self.takes.iter().map(|name| (*name).to_owned()).collect()
    }
    fn publications(&self) -> Vec<String> {
        self.gives.iter().map(|name| (*name).to_owned()).collect()
    }
    fn input_schema(&self) -> Option<Value> {
        self.input.clone()
    }
    fn start_at(&self) -> StartAt {
        self.start
    }
    async fn process_message(&mut self, ctx: &PubSubCtx, message: Message) -> anyhow::Result<()> {
        let publish = (self.does)(ctx, &message)?;
        for (channel, payload) in publish {
            ctx.publish(&channel, payload).await?;
        }
        Ok(())
    }
}

/// Payloads that an agent got, in order.
#[derive(Clone, Default)]
pub(crate) struct Got(Arc<Mutex<Vec<Value>>>);

impl Got {
    pub(crate) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
    fn numbers(&self) -> Vec<i64> {
        self.all().iter().map(|value| value.as_i64().unwrap()).collect()
    }
    pub(crate) fn note(&self, value: &Value) {
        self.0.lock().unwrap().push(value.clone());
    }
}

/// An agent that notes what it gets.
pub(crate) fn noting(name: &'static str, takes: &[&'static str], got: &Got) -> Made {
    let got = got.clone();
    Made::new(name, takes, move |_, message| {
        got.note(&message.payload);
        Ok(Vec::new())
    })
}

pub(crate) async fn in_memory(config: PubSubConfig) -> PubSubExecutor {
    let options = StorageOptions { clock: SimClock::new(), ..StorageOptions::default() };
    let storage = SqliteStorage::open("sqlite::memory:", options).await.unwrap();
    PubSubExecutor::with_storage(config, storage).await.unwrap()
}

fn react(
    executor: &PubSubExecutor,
) -> tokio::task::JoinHandle<Result<mayfly_flow::PubSubReport, DagError>> {
    let executor = executor.clone();
    tokio::spawn(async move { executor.execute(Execution::Reactive).await })
}

pub(crate) fn start(channel: &str, message: impl Into<Message>) -> Execution {
    Execution::StartWith { channel: channel.to_owned(), message: message.into() }
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_through_agents_until_nothing_is_left() {
    let executor = in_memory(PubSubConfig::default()).await;
    let (got, own) = (Got::default(), Got::default());
    let seen = own.clone();
    let mut double = Made::new("double", &["in", "out"], move |_, message| {
        seen.note(&json!(message.channel));
        Ok(vec![("out".to_owned(), json!(message.payload.as_i64().unwrap() * 2))])
    });
    double.gives = vec!["out"];
    executor.register_agent(double).await.unwrap();
    executor.register_agent(noting("end", &["out"], &got)).await.unwrap();
    let report = executor.execute(start("in", json!(21))).await.unwrap();
    assert_eq!(got.all(), [json!(42)]);
    assert_eq!(own.all(), [json!("in")], "it got its own message");
    assert_eq!((report.handled, report.failed_attempts, report.dead_letters), (2, 0, 0));
    let names: Vec<String> = executor.list_agents().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["double", "end"]);
    let channels = executor.list_channels().await.unwrap();
    let heads: Vec<_> = channels.iter().map(|info| (info.name.as_str(), info.head)).collect();
    assert_eq!(heads, [("in", 1), ("in.dead", 0), ("out", 1), ("out.dead", 0)]);
}

#[tokio::test(start_paused = true)]
async fn publishing_stores_an_id_once_and_refuses_unknown_channels() {
    let executor = in_memory(PubSubConfig::default()).await;
    executor.declare_channel("c").await.unwrap();
    let message = Message::new("caller", json!(1)).with_id("one");
    assert_eq!(executor.publish("c", message.clone()).await.unwrap(), 1);
    assert_eq!(executor.publish("c", json!(2)).await.unwrap(), 2);
    assert_eq!(executor.publish("c", message).await.unwrap(), 1);
    let error = executor.publish("nowhere", json!(1)).await.unwrap_err();
    assert!(error.to_string().contains("`nowhere` is not declared"), "{error}");
    let error = executor.declare_channel("").await.unwrap_err();
    assert!(error.to_string().contains("1 to 200 bytes"), "{error}");
    executor
        .register_agent(Made::new("stray", &["c"], |_, _| Ok(vec![("d".to_owned(), json!(1))])))
        .await
        .unwrap();
    executor.execute(start("c", json!(3))).await.unwrap();
    let dead = executor.read("c.dead", mayfly_flow::Read::default()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].payload["error"].as_str().unwrap().contains("does not declare"), "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn case_15_a_bad_payload_is_refused_and_poison_lands_among_the_dead_and_can_be_replayed() {
    let executor = in_memory(PubSubConfig::default()).await;
    let (got, tries) = (Got::default(), Arc::new(AtomicUsize::new(0)));
    let (note, count) = (got.clone(), tries.clone());
    let healed = Arc::new(AtomicUsize::new(0));
    let is_healed = healed.clone();
    let mut picky = Made::new("picky", &["c"], move |ctx, message| {
        if message.payload["poison"] == json!(true) && is_healed.load(SeqCst) == 0 {
            assert_eq!(usize::try_from(ctx.attempt()).unwrap(), count.fetch_add(1, SeqCst) + 1);
            anyhow::bail!("cannot swallow");
        }
        note.note(&message.payload);
        Ok(Vec::new())
    });
    picky.input = Some(json!({ "type": "object" }));
    executor.register_agent(picky).await.unwrap();
    let other = Got::default();
    executor.register_agent(noting("other", &["c"], &other)).await.unwrap();
    let error = executor.publish("c", json!("text")).await.unwrap_err();
    assert!(
        matches!(&error, DagError::ValidationError(text) if text.contains("`picky`")),
        "{error}"
    );
    let began = Instant::now();
    executor.publish("c", json!({ "poison": true })).await.unwrap();
    let report = executor.execute(start("c", json!({ "n": 2 }))).await.unwrap();
    // Waits of 1 s and 2 s.
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(tries.load(SeqCst), 3);
    assert_eq!((report.failed_attempts, report.dead_letters), (3, 1));
    // Without keys the order holds: the second one came after the first one's end.
    assert_eq!(got.all(), [json!({ "n": 2 })]);
    let dead = executor.read("c.dead", mayfly_flow::Read::default()).await.unwrap();
    assert_eq!(dead[0].payload["subscriber"], json!("picky"));
    assert_eq!(dead[0].payload["attempts"], json!(3));
    assert_eq!(dead[0].payload["error"], json!("cannot swallow"));
    healed.store(1, SeqCst);
    assert_eq!(executor.replay_dead("c").await.unwrap(), 1);
    executor.execute(start("c", json!({ "n": 3 }))).await.unwrap();
    assert_eq!(got.all(), [json!({ "n": 2 }), json!({ "poison": true }), json!({ "n": 3 })]);
    assert_eq!(other.all().len(), 3, "the replay went to another subscriber");
    assert_eq!(executor.replay_dead("c").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_user_is_final_and_a_panic_is_tried_again() {
    let executor = in_memory(PubSubConfig::default()).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let agent = Made::new("a", &["c"], move |ctx, message| {
        count.fetch_add(1, SeqCst);
        match message.payload.as_str() {
            Some("user") => Err(AgentError::User("wrong".into()).into()),
            _ if ctx.attempt() == 1 => panic!("once"),
            _ => Ok(Vec::new()),
        }
    });
    executor.register_agent(agent).await.unwrap();
    executor.execute(start("c", json!("user"))).await.unwrap();
    assert_eq!(tries.swap(0, SeqCst), 1);
    let report = executor.execute(start("c", json!("panic"))).await.unwrap();
    assert_eq!(tries.load(SeqCst), 2);
    assert_eq!((report.handled, report.dead_letters), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_in_trouble_holds_only_itself_up() {
    let executor = in_memory(PubSubConfig::default()).await;
    let got = Got::default();
    let note = got.clone();
    let agent = Made::new("a", &["c"], move |ctx, message| {
        anyhow::ensure!(message.payload != json!(1) || ctx.attempt() > 2, "not yet");
        note.note(&message.payload);
        Ok(Vec::new())
    });
    executor.register_agent(agent).await.unwrap();
    for (n, key) in [(1, "x"), (2, "x"), (3, "y")] {
        executor.publish("c", Message::new("", json!(n)).with_key(key)).await.unwrap();
    }
    executor.execute(start("c", json!(4))).await.unwrap();
    assert_eq!(got.numbers(), [3, 4, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn regression_07_reactive_works_after_ten_seconds_of_silence_and_ends_at_stop() {
    let executor = in_memory(PubSubConfig::default()).await;
    let got = Got::default();
    executor.register_agent(noting("a", &["c"], &got)).await.unwrap();
    let running = react(&executor);
    tokio::time::sleep(Duration::from_secs(10)).await;
    executor.publish("c", json!(1)).await.unwrap();
    tokio::time::sleep(Duration::from_hours(2)).await;
    executor.publish("c", json!(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(got.numbers(), [1, 2]);
    assert!(!running.is_finished());
    executor.stop().await;
    assert_eq!(running.await.unwrap().unwrap().handled, 2);
    let error = executor.execute(Execution::Reactive).await.unwrap_err();
    assert!(matches!(error, DagError::InvalidState(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn regression_08_more_than_a_thousand_messages_do_not_block_a_channel() {
    let executor = in_memory(PubSubConfig::default()).await;
    let got = Got::default();
    executor.register_agent(noting("a", &["c"], &got)).await.unwrap();
    for n in 0..2_500 {
        executor.publish("c", json!(n)).await.unwrap();
    }
    executor.execute(start("c", json!(2_500))).await.unwrap();
    assert_eq!(got.numbers(), (0..=2_500).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn regression_04_case_15_two_agents_answer_each_other_two_thousand_times() {
    let config = PubSubConfig { max_messages: 2, retain_messages: 3, ..PubSubConfig::default() };
    let executor = in_memory(config).await;
    let count = Arc::new(AtomicUsize::new(0));
    for (name, takes, gives) in [("ping", "a", "b"), ("pong", "b", "a")] {
        let count = count.clone();
        let mut agent = Made::new(name, &[], move |_, message| {
            count.fetch_add(1, SeqCst);
            let left = message.payload.as_i64().unwrap() - 1;
            // Both have more in their channels than these keep, and still go on.
            Ok(if left < 0 { Vec::new() } else { vec![(gives.to_owned(), json!(left))] })
        });
        (agent.takes, agent.gives) = (vec![takes], vec![gives]);
        executor.register_agent(agent).await.unwrap();
    }
    for _ in 0..2 {
        executor.publish("a", json!(1_998)).await.unwrap();
        executor.publish("b", json!(1_998)).await.unwrap();
    }
    executor.execute(start("a", json!(1_999))).await.unwrap();
    assert_eq!(count.load(SeqCst), 4 * 1_999 + 2_000);
}

/// Counts looks at the clock's hold, which every access to the file takes.
#[derive(Debug)]
struct Counting(Arc<SimClock>, AtomicUsize);

impl mayfly_flow::Clock for Counting {
    fn now(&self) -> i64 {
        self.0.now()
    }
    fn hold(&self) -> mayfly_flow::clock::Hold {
        self.1.fetch_add(1, SeqCst);
        self.0.hold()
    }
}

#[tokio::test(start_paused = true)]
async fn regression_26_an_idle_executor_does_not_look_at_the_file_but_to_extend_its_lease() {
    let clock = Arc::new(Counting(SimClock::new(), AtomicUsize::new(0)));
    let options = StorageOptions { clock: clock.clone(), ..StorageOptions::default() };
    let storage = SqliteStorage::open("sqlite::memory:", options).await.unwrap();
    let executor = PubSubExecutor::with_storage(PubSubConfig::default(), storage).await.unwrap();
    executor.register_agent(noting("a", &["c"], &Got::default())).await.unwrap();
    let _running = react(&executor);
    tokio::time::sleep(Duration::from_secs(1)).await;
    clock.1.store(0, SeqCst);
    tokio::time::sleep(Duration::from_hours(1)).await;
    // A heartbeat is at most four of them, every 30 s.
    assert!(clock.1.load(SeqCst) <= 4 * 121, "{}", clock.1.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn start_with_gives_up_at_its_limit_and_what_is_left_stays() {
    let config =
        PubSubConfig { timeout_seconds: 5, max_attempts: 1_000, ..PubSubConfig::default() };
    let executor = in_memory(config).await;
    executor.register_agent(Made::new("a", &["c"], |_, _| anyhow::bail!("never"))).await.unwrap();
    let error = executor.execute(start("c", json!(1))).await.unwrap_err();
    assert!(matches!(error, DagError::ExecutionTimeout(_)), "{error}");
    let left = executor.list_channels().await.unwrap();
    assert_eq!(left[0].stored, 1);
}
