//! Random lives of a sandbox: every transition ends, destroyed is final, nothing panics.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mayfly_core::id::{OrganizationId, SandboxId, ServerId, SnapshotId};
    use mayfly_core::limits::Resources;
    use mayfly_core::network::NetworkPolicy;
    use mayfly_core::ports::runtime::Profile;
    use mayfly_core::sandbox::{
        Command, CreateSandbox, Denied, Desired, Effect, Fact, Sandbox, State, Timer, Timers, due,
        on_command, on_fact, pending,
    };
    use mayfly_core::time::{Moment, Monotonic, Timestamp};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn at(minutes: u64) -> Moment {
        Moment { wall: Timestamp(0), mono: Monotonic(1_000 + minutes * 60_000) }
    }

    fn sandbox(state: State) -> Sandbox {
        let now = at(0);
        Sandbox {
            volumes: Vec::new(),
            network: NetworkPolicy::default(),
            id: SandboxId::from_uuid(Uuid::nil()),
            organization: OrganizationId::from_uuid(Uuid::nil()),
            name: "s".to_owned(),
            snapshot: SnapshotId::from_uuid(Uuid::nil()),
            snapshot_name: "host".to_owned(),
            user: "root".to_owned(),
            env: BTreeMap::new(),
            later_env: std::collections::BTreeMap::new(),
            labels: BTreeMap::new(),
            public: false,
            target: "local".to_owned(),
            resources: Resources::DEFAULT,
            profile: Profile::Full,
            state,
            desired: Desired::Started,
            resume_to: (state == State::Resizing).then_some(State::Started),
            error_reason: None,
            recoverable: false,
            timers: Timers::default(),
            created: now,
            ttl_from: now,
            last_activity: now,
            stopped_since: matches!(state, State::Stopped | State::Archived).then_some(now),
            updated_at: now.wall,
            server: ServerId::from_uuid(Uuid::nil()),
            idempotency_key: Some("key".to_owned()),
            warm: false,
            version: 1,
        }
    }

    fn succeed(effect: Effect) -> Fact {
        match effect {
            Effect::Create => Fact::Created,
            Effect::Start | Effect::Restart => Fact::Started,
            Effect::Stop { .. } => Fact::Stopped,
            Effect::Archive => Fact::Archived,
            Effect::Restore => Fact::Restored,
            Effect::Freeze => Fact::Frozen,
            Effect::Thaw => Fact::Thawed,
            Effect::Resize { to, .. } => Fact::Resized(to),
            Effect::Destroy => Fact::Destroyed,
        }
    }

    fn size(cpu: u32, disk_gib: u32) -> Resources {
        Resources { cpu, memory_gib: 1, disk_gib }
    }

    fn command() -> impl Strategy<Value = Command> {
        let timer = prop_oneof![
            Just(Timer::AutoStop),
            Just(Timer::AutoPause),
            Just(Timer::AutoArchive),
            Just(Timer::AutoDelete),
            Just(Timer::Ttl)
        ];
        prop_oneof![
            Just(Command::Start),
            any::<bool>().prop_map(|force| Command::Stop { force }),
            Just(Command::Archive),
            Just(Command::Pause),
            any::<bool>().prop_map(|skip_start| Command::Recover { skip_start }),
            (0_u32..4, 1_u32..6).prop_map(|(cpu, disk)| Command::Resize(size(cpu, disk))),
            Just(Command::Destroy),
            Just(Command::Retire),
            Just(Command::SetPublic(true)),
            (timer, -2_i64..200_000).prop_map(|(timer, n)| Command::SetTimer(timer, n)),
        ]
    }

    fn fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            Just(Fact::Created),
            Just(Fact::Started),
            Just(Fact::Stopped),
            Just(Fact::Archived),
            Just(Fact::Restored),
            Just(Fact::Frozen),
            Just(Fact::Thawed),
            (1_u32..4, 1_u32..6).prop_map(|(cpu, disk)| Fact::Resized(size(cpu, disk))),
            Just(Fact::Exited { reason: "killed".to_owned() }),
            Just(Fact::FoundStopped),
            Just(Fact::Outdated { reason: "too old".to_owned() }),
            Just(Fact::Lost),
            (any::<bool>(), any::<bool>()).prop_map(|(retryable, known)| Fact::Failed {
                reason: "failed".to_owned(),
                retryable,
                back_to: known.then_some(Resources::DEFAULT),
            }),
        ]
    }

    #[derive(Clone, Debug)]
    enum Input {
        Command(Command),
        Fact(Fact),
        /// The world does what is pending.
        Effect,
        /// Minutes pass and a timer may ask for something.
        Time(u64),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => command().prop_map(Input::Command),
            2 => fact().prop_map(Input::Fact),
            4 => Just(Input::Effect),
            1 => (0_u64..20_000).prop_map(Input::Time),
        ]
    }

    fn check(before: &Sandbox, after: &Sandbox, effect: Option<Effect>) {
        assert_eq!(pending(after).is_some(), after.state.is_transient(), "{after:?}");
        if let Some(effect) = effect {
            assert_eq!(effect.state(), after.state, "an effect belongs to the state it ends");
        }
        if before.state == State::Destroyed {
            assert_eq!(before, after, "destroyed is final");
        }
        if before.desired == Desired::Destroyed && before.state == State::Destroying {
            assert!(matches!(after.state, State::Destroying | State::Destroyed | State::Error));
        }
        assert!(after.state == State::Error || !after.recoverable, "only errors are recovered");
        assert!(after.state != State::Error || after.error_reason.is_some(), "errors say why");
        assert!(after.state != State::Stopped || after.stopped_since.is_some());
        assert!(after.state != State::Started || after.stopped_since.is_none());
        assert_eq!(after.state == State::Resizing, after.resume_to.is_some());
        assert_eq!(before.version, after.version, "versions are the writer's");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_random_life_keeps_the_rules(inputs in proptest::collection::vec(input(), 0..80)) {
            let mut now = 0;
            let mut row = sandbox(State::Creating);
            let mut wished = None;
            for input in inputs {
                let before = row.clone();
                match input {
                    Input::Command(command) => {
                        if let Ok(step) = on_command(&row, command, at(now)) {
                            wished = step.effect;
                            row = step.next;
                        }
                    }
                    Input::Fact(fact) => {
                        let step = on_fact(&row, fact, at(now));
                        wished = step.effect;
                        row = step.next;
                    }
                    Input::Effect => if let Some(effect) = pending(&row) {
                        let step = on_fact(&row, succeed(effect), at(now));
                        prop_assert_ne!(step.next.state, row.state, "an effect ends its state");
                        wished = step.effect;
                        row = step.next;
                    },
                    Input::Time(minutes) => {
                        now += minutes;
                        if let Some(command) = due(&row, row.last_activity, at(now)) {
                            // In a lasting state a timer is never refused.
                            let step = on_command(&row, command, at(now));
                            prop_assert!(row.state.is_transient() || step.is_ok());
                            if let Ok(step) = step {
                                wished = step.effect;
                                row = step.next;
                            }
                        }
                    }
                }
                check(&before, &row, wished.take());
            }
            for _ in 0..4 {
                let Some(effect) = pending(&row) else { break };
                row = on_fact(&row, succeed(effect), at(now)).next;
            }
            prop_assert!(!row.state.is_transient(), "a transition ends: {:?}", row.state);
            let step = on_command(&row, Command::Destroy, at(now)).unwrap();
            let gone = on_fact(&step.next, Fact::Destroyed, at(now)).next;
            prop_assert_eq!(gone.state, State::Destroyed);
        }

        #[test]
        fn a_failed_effect_ends_its_state_too(index in 0_usize..State::ALL.len(), retryable: bool) {
            let row = sandbox(State::ALL[index]);
            let Some(effect) = pending(&row) else { return Ok(()) };
            let failed = Fact::Failed { reason: "why".to_owned(), retryable, back_to: None };
            let step = on_fact(&row, failed, at(1));
            prop_assert!(!step.next.state.is_transient(), "{:?} after {:?}", step.next.state, effect);
            prop_assert_eq!(step.next.error_reason.as_deref(), Some("why"));
        }
    }

    #[test]
    fn every_verb_in_every_state_goes_where_the_contract_says() {
        use State::{
            Archived, Archiving, Destroyed, Destroying, Error, Paused, Pausing, Resizing,
            Restoring, Resuming, Started, Starting, Stopped, Stopping,
        };
        let bigger = Command::Resize(size(2, 3));
        let table: [(Command, &[(State, State)]); 7] = [
            (
                Command::Start,
                &[
                    (Started, Started),
                    (Stopped, Starting),
                    (Archived, Restoring),
                    (Paused, Resuming),
                ],
            ),
            (
                Command::Stop { force: false },
                &[(Started, Stopping), (Paused, Stopping), (Stopped, Stopped)],
            ),
            (Command::Archive, &[(Stopped, Archiving)]),
            (Command::Pause, &[(Started, Pausing)]),
            (Command::Recover { skip_start: false }, &[]),
            (bigger, &[(Started, Resizing), (Stopped, Resizing)]),
            (Command::Retire, &[]),
        ];
        for (command, allowed) in table {
            for state in State::ALL {
                let row = sandbox(state);
                let expected = allowed.iter().find(|(from, _)| *from == state).map(|(_, to)| *to);
                match (on_command(&row, command.clone(), at(1)), expected) {
                    (Ok(step), Some(to)) => assert_eq!(step.next.state, to, "{command:?}"),
                    (Err(_), None) => {}
                    (got, expected) => panic!("{command:?} in {state}: {got:?}, not {expected:?}"),
                }
            }
        }
        for state in State::ALL {
            let step = on_command(&sandbox(state), Command::Destroy, at(1)).unwrap();
            let end = if state == Destroyed { Destroyed } else { Destroying };
            assert_eq!(step.next.state, end, "delete works in every state");
        }
        for (skip_start, to) in [(true, Stopping), (false, Starting)] {
            let row = Sandbox { recoverable: true, ..sandbox(Error) };
            let step = on_command(&row, Command::Recover { skip_start }, at(1)).unwrap();
            assert_eq!(step.next.state, to);
        }
    }

    #[test]
    fn a_refusal_names_the_verb_the_sandbox_and_the_state() {
        let refused = on_command(&sandbox(State::Starting), Command::Pause, at(1)).unwrap_err();
        let wrong = Denied::InTransition { verb: "pause", state: State::Starting };
        assert_eq!(refused, wrong);
        let error = refused.into_error("box");
        assert_eq!(error.message(), "cannot pause sandbox box while it is starting");
        assert_eq!(error.kind(), mayfly_core::Kind::Conflict);
        let shrink = on_command(&sandbox(State::Started), Command::Resize(size(1, 2)), at(1));
        let error = shrink.unwrap_err().into_error("box");
        assert_eq!(error.kind(), mayfly_core::Kind::Invalid);
        assert!(error.message().contains("disk can only grow"), "{error}");
    }

    #[test]
    fn timers_end_phases_by_monotonic_time() {
        let timers = |auto_stop, auto_pause, auto_archive, auto_delete, ttl| Timers {
            auto_stop,
            auto_pause,
            auto_archive,
            auto_delete,
            ttl,
        };
        let stop = Some(Command::Stop { force: false });
        let archive = 30 * 24 * 60;
        for (state, timers, minutes, expected) in [
            (State::Started, timers(15, 0, 5, -1, 0), 14, None),
            (State::Started, timers(15, 0, 5, -1, 0), 15, stop),
            (State::Started, timers(0, 0, 5, -1, 0), 900_000, None),
            (State::Started, timers(0, 3, 5, -1, 0), 3, Some(Command::Pause)),
            (State::Started, timers(0, 0, 5, -1, 10), 10, Some(Command::Destroy)),
            (State::Paused, timers(1, 0, 1, 1, 0), 90, None),
            (State::Stopped, timers(1, 0, 5, -1, 0), 5, Some(Command::Archive)),
            (State::Stopped, timers(1, 0, 0, -1, 0), archive - 1, None),
            (State::Stopped, timers(1, 0, 0, -1, 0), archive, Some(Command::Archive)),
            (State::Stopped, timers(1, 0, 5, 0, 0), 0, Some(Command::Destroy)),
            (State::Archived, timers(1, 0, 5, 7, 0), 7, Some(Command::Destroy)),
            (State::Archived, timers(1, 0, 5, -1, 0), 900_000, None),
            (State::Error, timers(1, 0, 5, 0, 9), 8, None),
            (State::Error, timers(1, 0, 5, 0, 9), 9, Some(Command::Destroy)),
            (State::Destroying, timers(1, 0, 5, 0, 1), 9, None),
        ] {
            let mut row = Sandbox { timers, ..sandbox(state) };
            // A wall clock that jumps decides nothing.
            row.last_activity.wall = Timestamp(i64::MAX);
            assert_eq!(due(&row, row.last_activity, at(minutes)), expected, "{state} {timers:?}");
            row.warm = true;
            assert_eq!(due(&row, row.last_activity, at(minutes)), None, "warm ones have no timers");
        }
        let row = sandbox(State::Started);
        assert_eq!(due(&row, at(10), at(24)), None, "a later use counts");
    }

    #[test]
    fn an_ephemeral_sandbox_is_deleted_on_stop() {
        let mut row = sandbox(State::Stopping);
        row.timers.auto_delete = 0;
        let step = on_fact(&row, Fact::Stopped, at(1));
        assert_eq!((step.next.state, step.effect), (State::Destroying, Some(Effect::Destroy)));
    }

    #[test]
    fn wishes_that_make_no_sense_are_refused_by_field() {
        let base = CreateSandbox::default;
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let timers = |auto_stop, auto_pause, auto_delete| Timers {
            auto_stop,
            auto_pause,
            auto_delete,
            ..Timers::default()
        };
        assert!(base().check().is_ok());
        for (wanted, field) in [
            (CreateSandbox { name: Some(String::new()), ..base() }, "name"),
            (CreateSandbox { name: Some("a\0b".to_owned()), ..base() }, "name"),
            (CreateSandbox { name: Some("x".repeat(256)), ..base() }, "name"),
            (CreateSandbox { user: Some("a\nb".to_owned()), ..base() }, "user"),
            (CreateSandbox { env: map("A=B", "c"), ..base() }, "env"),
            (CreateSandbox { env: map("", "c"), ..base() }, "env"),
            (CreateSandbox { env: map("A", "c\0"), ..base() }, "env"),
            (CreateSandbox { env: map("A", &"c".repeat(2 << 20)), ..base() }, "env"),
            (CreateSandbox { labels: map("mayfly.owner", "x"), ..base() }, "mayfly.owner"),
            (CreateSandbox { cpu: Some(0), ..base() }, "cpu"),
            (CreateSandbox { memory_gib: Some(0), ..base() }, "memory"),
            (CreateSandbox { disk_gib: Some(0), ..base() }, "disk"),
            (CreateSandbox { timers: timers(1, 1, -1), ..base() }, "autoPauseInterval"),
            (CreateSandbox { timers: timers(0, 1, 0), ..base() }, "ephemeral"),
            (CreateSandbox { timers: timers(u32::MAX, 0, 0), ..base() }, "autoStopInterval"),
        ] {
            let refused = wanted.check().unwrap_err();
            assert_eq!(refused.kind(), mayfly_core::Kind::Invalid);
            assert!(refused.message().contains(field), "{refused} does not name {field}");
        }
        let odd = CreateSandbox { env: map("A", "$(x) `y` 'z'\n\u{fc}"), ..base() };
        assert!(odd.check().is_ok(), "values are free of rules but for NUL");
        for (timer, minutes) in
            [(Timer::AutoStop, -1), (Timer::Ttl, i64::MAX), (Timer::AutoPause, 5)]
        {
            let set = Command::SetTimer(timer, minutes);
            let refused = on_command(&sandbox(State::Started), set, at(1)).unwrap_err();
            assert!(matches!(refused, Denied::Invalid(_)), "{timer:?}: {refused:?}");
        }
    }
}
