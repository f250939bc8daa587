//! What channels keep, who waits for room, and subscribers that ask for their messages.

use std::time::Duration;

use mayfly_flow::{
    DagError, Execution, Message, PubSubAgent, PubSubConfig, PubSubCtx, Read, StartAt, WhenFull,
    async_trait,
};
use serde_json::{Value, json};

use crate::pubsub::{Got, Made, in_memory, noting, start};

fn of(subscriber: &str) -> Read {
    Read { subscriber: Some(subscriber.to_owned()), ..Read::default() }
}

fn from(start: StartAt) -> Read {
    Read { from: Some(start), ..Read::default() }
}

fn numbers(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_without_an_agent_reads_acknowledges_and_replays() {
    let executor = in_memory(PubSubConfig::default()).await;
    executor.declare_channel("c").await.unwrap();
    executor.publish("c", Message::new("me", json!(1))).await.unwrap();
    assert!(executor.read("c", of("me")).await.unwrap().is_empty(), "it began before the end");
    tokio::time::sleep(Duration::from_mins(1)).await;
    for source in ["you", "me", "you"] {
        executor.publish("c", Message::new(source, json!(source))).await.unwrap();
    }
    let got = executor.read("c", of("me")).await.unwrap();
    assert_eq!(numbers(&got), [2, 4]);
    assert_eq!(got[0].channel.as_deref(), Some("c"));
    assert_eq!(numbers(&executor.read("c", of("me")).await.unwrap()), [2, 4]);
    assert_eq!(executor.ack("c", "me", 2).await.unwrap(), 2);
    assert_eq!(executor.ack("c", "me", 1).await.unwrap(), 2, "it went back");
    assert_eq!(numbers(&executor.read("c", of("me")).await.unwrap()), [4]);
    let error = executor.ack("c", "me", 9).await.unwrap_err();
    assert!(error.to_string().contains("expected 0 to 4"), "{error}");
    assert_eq!(executor.seek("c", "me", StartAt::Earliest).await.unwrap(), 0);
    assert_eq!(numbers(&executor.read("c", of("me")).await.unwrap()), [2, 4]);
    assert_eq!(numbers(&executor.read("c", from(StartAt::Sequence(3))).await.unwrap()), [3, 4]);
    assert_eq!(numbers(&executor.read("c", from(StartAt::Latest)).await.unwrap()), [0_i64; 0]);
    let at = executor.read("c", Read::default()).await.unwrap()[1].timestamp;
    assert_eq!(numbers(&executor.read("c", from(StartAt::Time(at))).await.unwrap()), [2, 3, 4]);
    let max = Read { max: 2, ..Read::default() };
    assert_eq!(numbers(&executor.read("c", max).await.unwrap()), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn reading_waits_for_the_next_message_and_no_longer() {
    let executor = in_memory(PubSubConfig::default()).await;
    executor.declare_channel("c").await.unwrap();
    let wait = Read { wait: Duration::from_secs(20), ..from(StartAt::Latest) };
    let began = tokio::time::Instant::now();
    assert!(executor.read("c", wait.clone()).await.unwrap().is_empty());
    assert_eq!(began.elapsed().as_secs(), 20);
    let (other, began) = (executor.clone(), tokio::time::Instant::now());
    let reading = tokio::spawn(async move { other.read("c", wait).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(5)).await;
    executor.publish("c", json!("now")).await.unwrap();
    assert_eq!(reading.await.unwrap()[0].payload, json!("now"));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_blocks_until_somebody_acknowledges() {
    let config = PubSubConfig { retain_messages: 3, ..PubSubConfig::default() };
    let executor = in_memory(config).await;
    executor.declare_channel("c").await.unwrap();
    for n in 0..5 {
        // Nobody subscribes: all is acknowledged, the oldest go.
        executor.publish("c", json!(n)).await.unwrap();
    }
    assert_eq!(numbers(&executor.read("c", Read::default()).await.unwrap()), [3, 4, 5]);
    executor.seek("c", "slow", StartAt::Earliest).await.unwrap();
    let other = executor.clone();
    let waiting = tokio::spawn(async move { other.publish("c", json!("late")).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!waiting.is_finished());
    executor.ack("c", "slow", 3).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 6);
    assert_eq!(numbers(&executor.read("c", Read::default()).await.unwrap()), [4, 5, 6]);
    let began = tokio::time::Instant::now();
    let error = executor.publish("c", json!("never")).await.unwrap_err();
    assert!(matches!(error, DagError::ChannelFull(_)), "{error}");
    assert_eq!(began.elapsed().as_secs(), 3_600);
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_rejects_or_drops_and_counts_by_its_policy() {
    for when_full in [WhenFull::Reject, WhenFull::DropOldest] {
        let config = PubSubConfig { retain_messages: 3, when_full, ..PubSubConfig::default() };
        let executor = in_memory(config).await;
        executor.declare_channel("c").await.unwrap();
        executor.read("c", of("slow")).await.unwrap();
        for n in 0..3 {
            executor.publish("c", json!(n)).await.unwrap();
        }
        let fourth = executor.publish("c", json!(3)).await;
        let info = &executor.list_channels().await.unwrap()[0];
        if when_full == WhenFull::Reject {
            assert!(matches!(fourth, Err(DagError::ChannelFull(_))), "{fourth:?}");
            assert_eq!((info.stored, info.dropped), (3, 0));
        } else {
            assert_eq!(fourth.unwrap(), 4);
            assert_eq!((info.stored, info.dropped), (3, 1));
            assert_eq!(numbers(&executor.read("c", of("slow")).await.unwrap()), [2, 3, 4]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn channels_keep_so_many_bytes_and_so_long() {
    let config = PubSubConfig {
        retain_bytes: 100,
        max_payload_bytes: 50,
        retain_seconds: 3_600,
        ..PubSubConfig::default()
    };
    let executor = in_memory(config).await;
    executor.declare_channel("c").await.unwrap();
    for _ in 0..5 {
        executor.publish("c", json!("x".repeat(38))).await.unwrap();
    }
    let info = &executor.list_channels().await.unwrap()[0];
    assert_eq!((info.stored, info.bytes, info.dropped), (2, 80, 0));
    let error = executor.publish("c", json!("x".repeat(49))).await.unwrap_err();
    assert!(error.to_string().contains("51 bytes; at most 50"), "{error}");
    // Old ones go although nobody publishes any more.
    tokio::time::sleep(Duration::from_hours(2)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let info = &executor.list_channels().await.unwrap()[0];
    assert_eq!((info.stored, info.bytes, info.head), (0, 0, 5));
    executor.publish("c", json!(1)).await.unwrap();
    assert_eq!(numbers(&executor.read("c", Read::default()).await.unwrap()), [6]);
}

/// Answers with the double.
struct Doubler;

#[async_trait]
impl PubSubAgent for Doubler {
    fn subscriptions(&self) -> Vec<String> {
        vec!["ask".to_owned()]
    }
    fn publications(&self) -> Vec<String> {
        Vec::new()
    }
    async fn process_message(&mut self, ctx: &PubSubCtx, message: Message) -> anyhow::Result<()> {
        let Some(number) = message.payload.as_i64() else { return Ok(()) };
        assert_eq!(ctx.agent(), "Doubler");
        ctx.reply(json!(number * 2)).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn requests_get_their_own_answers() {
    let executor = in_memory(PubSubConfig::default()).await;
    executor.register_agent(Doubler).await.unwrap();
    let running = executor.clone();
    tokio::spawn(async move { running.execute(Execution::Reactive).await });
    let ask = |payload: Value| {
        let executor = executor.clone();
        async move { executor.request("ask", payload, Duration::from_secs(9)).await }
    };
    let (two, six) = tokio::join!(ask(json!(1)), ask(json!(3)));
    assert_eq!((two.unwrap().payload, six.unwrap().payload), (json!(2), json!(6)));
    let error = ask(json!("no number")).await.unwrap_err();
    assert!(matches!(error, DagError::ExecutionTimeout(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_attempt_publishes_the_same_thing_once() {
    let executor = in_memory(PubSubConfig::default()).await;
    let mut first = Made::new("first", &["a"], |_, _| {
        Ok(vec![
            ("b".to_owned(), json!("x")),
            ("b".to_owned(), json!("x")),
            ("c".to_owned(), json!(1)),
        ])
    });
    // The last of the three is refused, so the attempt fails when two are published.
    first.gives = vec!["b"];
    executor.register_agent(first).await.unwrap();
    let got = Got::default();
    executor.register_agent(noting("second", &["b"], &got)).await.unwrap();
    executor.execute(start("a", json!(1))).await.unwrap();
    executor.seek("a", "first", StartAt::Earliest).await.unwrap();
    executor.execute(start("b", json!("end"))).await.unwrap();
    assert_eq!(got.all(), [json!("x"), json!("x"), json!("end")]);
}

#[tokio::test(start_paused = true)]
async fn seeking_lets_an_agent_handle_again_what_it_handled() {
    let executor = in_memory(PubSubConfig::default()).await;
    let got = Got::default();
    executor.register_agent(noting("a", &["c"], &got)).await.unwrap();
    for n in 1..=3 {
        executor.publish("c", json!(n)).await.unwrap();
    }
    executor.execute(start("c", json!(4))).await.unwrap();
    assert_eq!(executor.seek("c", "a", StartAt::Sequence(3)).await.unwrap(), 2);
    executor.execute(start("c", json!(5))).await.unwrap();
    let all: Vec<i64> = got.all().iter().map(|value| value.as_i64().unwrap()).collect();
    assert_eq!(all, [1, 2, 3, 4, 3, 4, 5]);
}
