//! Bytes from a hostile process 1 or a torn connection never crash the reader of messages, and whole
//! messages come back as they were.

#[cfg(test)]
mod tests {
    use mayfly_init::protocol::kept::{HEAD, Head};
    use mayfly_init::protocol::stay::{Data, MAX_COMMAND, Queue, Start, Write};
    use mayfly_init::protocol::{
        Create, Hello, MAX_PACKET, Overlay, Prepare, Reader, Run, Stage, Volume, Writer,
    };
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..40)
    }

    fn lists() -> impl Strategy<Value = Vec<Vec<u8>>> {
        vec(bytes(), 0..6)
    }

    fn runs() -> impl Strategy<Value = Run> {
        let ids = (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..8));
        (ids, bytes(), lists(), lists(), bytes(), any::<u64>(), any::<bool>()).prop_map(
            |((uid, gid, groups), cwd, argv, env, title, started_at, input)| Run {
                uid,
                gid,
                groups,
                cwd,
                argv,
                env,
                title,
                started_at,
                input,
            },
        )
    }

    fn creates() -> impl Strategy<Value = Create> {
        let overlay = (bytes(), lists(), bytes(), bytes())
            .prop_map(|(target, lower, upper, work)| Overlay { target, lower, upper, work });
        let volume = (bytes(), bytes(), bytes(), any::<bool>()).prop_map(
            |(folder, subpath, target, read_only)| Volume { folder, subpath, target, read_only },
        );
        let limits = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let numbers = (any::<u32>(), limits);
        (numbers, bytes(), bytes(), vec(overlay, 0..4), vec(volume, 0..4)).prop_map(
            |((slot, limits), hostname, folder, overlays, volumes)| {
                let (shm_bytes, open_files, pids, file_bytes, log_bytes) = limits;
                Create {
                    slot,
                    hostname,
                    folder,
                    overlays,
                    volumes,
                    shm_bytes,
                    open_files,
                    pids,
                    file_bytes,
                    log_bytes,
                }
            },
        )
    }

    /// Everything that any end decodes, on the same bytes.
    fn decode_all(bytes: &[u8]) {
        let _ = Run::decode(bytes);
        let _ = Hello::decode(&mut Reader::new(bytes));
        let _ = Prepare::decode(&mut Reader::new(bytes));
        let _ = Create::decode(&mut Reader::new(bytes));
        let _ = (Start::decode(bytes), Queue::decode(bytes), Write::decode(bytes));
        if let Some(data) = Data::decode(&mut Reader::new(bytes)) {
            assert!(data.length() <= bytes.len() as u64);
        }
        if let Some(head) = bytes.first_chunk::<HEAD>().and_then(Head::decode) {
            assert!(head.begin <= head.end && head.end - head.begin <= head.size);
        }
        let mut reader = Reader::new(bytes);
        let _ = (reader.u8().and_then(Stage::from_u8), reader.u32(), reader.u64());
        let _ = (reader.bytes(), reader.list());
        assert!(reader.rest().len() <= bytes.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if full() { 200_000 } else { 2_000 }))]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..MAX_PACKET / 64)) {
            decode_all(&bytes);
        }

        #[test]
        fn lengths_that_lie_are_refused(count in any::<u32>(), tail in bytes()) {
            let message = [&count.to_le_bytes()[..], &tail].concat();
            decode_all(&message);
            let mut reader = Reader::new(&message);
            if let Some(found) = reader.bytes() {
                prop_assert_eq!(found.len(), count as usize);
            }
            let mut reader = Reader::new(&message);
            if let Some(found) = reader.list() {
                prop_assert!(found.len() <= tail.len() / 4);
            }
        }

        #[test]
        fn a_run_comes_back_and_no_cut_of_it_is_taken(run in runs(), cut in any::<prop::sample::Index>()) {
            let whole = run.encode();
            prop_assert_eq!(Run::decode(&whole), Some(run));
            prop_assert_eq!(Run::decode(&whole[..cut.index(whole.len())]), None);
        }

        #[test]
        fn a_create_comes_back_and_no_cut_of_it_is_taken(
            create in creates(),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = create.encode();
            let body = &whole[1..];
            prop_assert_eq!(Create::decode(&mut Reader::new(body)), Some(create));
            prop_assert_eq!(Create::decode(&mut Reader::new(&body[..cut.index(body.len())])), None);
        }

        #[test]
        fn a_start_comes_back_and_no_cut_of_it_is_taken(
            run in runs(),
            others in lists(),
            login in any::<bool>(),
            kind in any::<u8>(),
            window in any::<(u16, u16)>(),
            note in bytes(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (columns, rows) = window;
            let start = Start { run, others, login, kind, columns, rows, note };
            let whole = start.encode();
            prop_assert_eq!(Start::decode(&whole), Some(start));
            prop_assert_eq!(Start::decode(&whole[..cut.index(whole.len())]), None);
        }

        #[test]
        fn commands_and_input_come_back_and_no_cut_of_them_is_taken(
            (shell, started_at) in any::<(u64, u64)>(),
            text in vec(1..=u8::MAX, 0..100),
            note in bytes(),
            cut in any::<prop::sample::Index>(),
        ) {
            prop_assert!(text.len() <= MAX_COMMAND);
            let queue = Queue { shell, started_at, command: text.clone(), note };
            let whole = queue.encode();
            prop_assert_eq!(Queue::decode(&whole), Some(queue));
            prop_assert_eq!(Queue::decode(&whole[..cut.index(whole.len())]), None);
            let write = Write { number: shell, bytes: text };
            let whole = write.encode();
            prop_assert_eq!(Write::decode(&whole), Some(write));
            prop_assert_eq!(Write::decode(&whole[..cut.index(whole.len())]), None);
        }

        #[test]
        fn one_wrong_byte_never_crashes_the_reader(
            run in runs(),
            place in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let mut message = run.encode();
            let place = place.index(message.len());
            message[place] = value;
            decode_all(&message);
        }

        #[test]
        fn fields_come_back_in_order(a in any::<u8>(), b in any::<u64>(), c in bytes(), d in lists()) {
            let message = Writer::new(a).u64(b).bytes(&c).list(&d).finish();
            let mut reader = Reader::new(&message);
            prop_assert_eq!(reader.u8(), Some(a));
            prop_assert_eq!(reader.u64(), Some(b));
            prop_assert_eq!(reader.bytes(), Some(&c[..]));
            let list: Vec<Vec<u8>> = reader.list().unwrap().into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(list, d);
            prop_assert!(reader.rest().is_empty());
        }
    }

    fn full() -> bool {
        std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full")
    }
}
