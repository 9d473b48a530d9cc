//! The ring's own tests. `make loom` runs the models, `make stress` the long randomized run under
//! ThreadSanitizer; the rest is part of `make test`.

use super::*;

/// Byte `offset` of the test stream.
fn expected(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Fills a segment with the bytes of the test stream, `step` bytes at a time.
fn fill(mut segment: Segment, step: usize, publish_each: bool) -> Result<(), Stopped> {
    while segment.remaining() > 0 {
        let at = segment.filled;
        let window = segment.window()?;
        let n = window.len().min(step);
        for (i, byte) in window[..n].iter_mut().enumerate() {
            *byte = expected(at + i as u64);
        }
        segment.advance(n);
        if publish_each {
            segment.publish();
        }
    }
    segment.complete();
    Ok(())
}

/// Takes all blocks in strokes of `mark`, checking length and every byte.
fn drain(consumer: &mut Consumer, mark: u64, total: u64) -> Result<u64, Stopped> {
    let mut taken = 0;
    while consumer.wait(mark)? {
        while let Some(block) = consumer.block() {
            assert!(
                block.iter().enumerate().all(|(i, &b)| b == expected(taken + i as u64)),
                "wrong byte after {taken}"
            );
            taken += block.len() as u64;
            let block_size = consumer.shared.block;
            assert!(taken == total || taken.is_multiple_of(block_size as u64), "a short block at {taken}");
            consumer.release();
        }
    }
    Ok(taken)
}

#[cfg(loom)]
mod model {
    use super::*;

    /// All interleavings with at most `preemptions` preemptions.
    fn bounded(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(f);
    }

    fn produce(producers: &Producers) -> Result<(), Stopped> {
        let mut producer = producers.register();
        while let Some(segment) = producer.next_segment() {
            fill(segment, 2, true)?;
        }
        Ok(())
    }

    /// Runs each side on a thread of its own. The model's main thread only joins: loom's `unpark`
    /// would wake it inside `join`, which it does not expect.
    fn together(sides: Vec<Box<dyn FnOnce() + Send>>) {
        let threads: Vec<_> = sides.into_iter().map(loom::thread::spawn).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    /// Two producers share blocks; the stream is longer than the ring, so it wraps around.
    #[test]
    fn two_producers_wrap_around() {
        bounded(2, || {
            let (producers, mut consumer) = new(2, 2, 2, Bounds::new([0, 1, 3, 5])).unwrap();
            let other = producers.clone();
            together(vec![
                Box::new(move || assert_eq!(produce(&producers), Ok(()))),
                Box::new(move || assert_eq!(produce(&other), Ok(()))),
                Box::new(move || assert_eq!(drain(&mut consumer, 1, 5), Ok(5))),
            ]);
        });
    }

    /// One slot: each side waits for the other at every block; the mark is higher than what is left.
    #[test]
    fn one_slot_and_a_mark() {
        bounded(4, || {
            let (producers, mut consumer) = new(1, 1, 1, Bounds::new([0, 2, 3])).unwrap();
            together(vec![
                Box::new(move || assert_eq!(produce(&producers), Ok(()))),
                Box::new(move || assert_eq!(drain(&mut consumer, 5, 3), Ok(3))),
            ]);
        });
    }

    /// The end of an open stream, inside a block and between two.
    #[test]
    fn an_open_stream_ends() {
        for total in [1, 2] {
            bounded(4, move || {
                let (producers, mut consumer) = new(2, 2, 1, Bounds::open()).unwrap();
                together(vec![
                    Box::new(move || {
                        let mut producer = producers.register();
                        let mut segment = producer.next_segment().unwrap();
                        for at in 0..total {
                            segment.put(&[expected(at)]).unwrap();
                            segment.publish();
                        }
                        segment.end_stream();
                    }),
                    Box::new(move || assert_eq!(drain(&mut consumer, 2, total), Ok(total))),
                ]);
            });
        }
    }

    /// A producer gives up its segment: consumer and the other producer both find out.
    #[test]
    fn a_failing_producer_stops_all() {
        bounded(2, || {
            let (producers, mut consumer) = new(1, 1, 2, Bounds::new([0, 1, 2, 3])).unwrap();
            let other = producers.clone();
            together(vec![
                Box::new(move || drop(producers.register().next_segment())),
                Box::new(move || {
                    let _ = produce(&other);
                }),
                Box::new(move || {
                    // Either the stop is seen, or the failing side came too late for any segment.
                    let outcome = drain(&mut consumer, 1, 3);
                    assert!(outcome == Err(Stopped) || outcome == Ok(3));
                }),
            ]);
        });
    }

    /// The consumer goes away: no producer waits for ever for the room that it needs.
    #[test]
    fn a_failing_consumer_stops_all() {
        bounded(4, || {
            let (producers, consumer) = new(1, 1, 1, Bounds::new([0, 3])).unwrap();
            together(vec![
                Box::new(move || {
                    let mut producer = producers.register();
                    if let Some(segment) = producer.next_segment() {
                        assert_eq!(fill(segment, 2, true), Err(Stopped));
                    }
                }),
                Box::new(move || drop(consumer)),
            ]);
        });
    }

    /// One slot, two readers of each filling: the filler waits until both are gone, and each sees its bytes.
    #[test]
    fn a_slot_is_free_when_its_last_reader_is_gone() {
        bounded(3, || {
            let (mut filler, _stopper) = fan_out(1, 1).unwrap();
            let mut slot = filler.slot().unwrap();
            slot[0] = 1;
            let one = slot.publish(1);
            let other = one.clone();
            together(vec![
                Box::new(move || {
                    let mut slot = filler.slot().unwrap();
                    slot[0] = 2;
                    assert_eq!(slot.publish(1)[..], [2]);
                }),
                Box::new(move || assert_eq!(one[..], [1])),
                Box::new(move || assert_eq!(other[..], [1])),
            ]);
        });
    }

    /// The filler waits for its mark, and is not left asleep, in whatever order slots come free.
    #[test]
    fn a_filler_waits_for_its_mark() {
        bounded(3, || {
            let (mut filler, _stopper) = fan_out(1, 2).unwrap();
            filler.set_mark(2);
            let mut filled = || {
                let mut slot = filler.slot().unwrap();
                slot[0] = 1;
                slot.publish(1)
            };
            let (one, other) = (filled(), filled());
            together(vec![
                Box::new(move || {
                    for _ in 0..2 {
                        filler.slot().unwrap()[0] = 2;
                    }
                }),
                Box::new(move || assert_eq!(one[..], [1])),
                Box::new(move || assert_eq!(other[..], [1])),
            ]);
        });
    }

    /// Stopped while the filler may be asleep, with all slots held.
    #[test]
    fn a_filler_is_stopped() {
        bounded(3, || {
            let (mut filler, stopper) = fan_out(1, 1).unwrap();
            let held = filler.slot().unwrap().publish(0);
            together(vec![
                Box::new(move || assert!(matches!(filler.slot(), Err(Stopped)))),
                Box::new(move || stopper.stop()),
            ]);
            drop(held);
        });
    }

    /// Stopped from outside while both sides may be asleep.
    #[test]
    fn stopped_from_outside() {
        bounded(3, || {
            let (producers, mut consumer) = new(1, 1, 1, Bounds::new([0, 1, 2])).unwrap();
            let stopper = producers.stopper();
            together(vec![
                Box::new(move || {
                    // Fills the first segment only; then nobody goes on until the ring is stopped.
                    let mut producer = producers.register();
                    if let Some(segment) = producer.next_segment() {
                        let _ = fill(segment, 1, true);
                    }
                }),
                Box::new(move || stopper.stop()),
                Box::new(move || assert_eq!(drain(&mut consumer, 2, 2), Err(Stopped))),
            ]);
        });
    }
}

#[cfg(not(loom))]
mod threads {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    /// How a stream goes through a ring.
    struct Way {
        /// Bytes of a block, and blocks in memory.
        ring: (usize, usize),
        producers: usize,
        /// Bytes that are filled at once.
        step: usize,
        mark: u64,
        /// Publish each time.
        each: bool,
    }

    /// Runs a whole stream through a ring with real threads. Bytes that pass are checked in `drain`.
    fn run(bounds: Vec<u64>, way: &Way) -> u64 {
        let total = *bounds.last().unwrap();
        let Way { ring: (block, slots), producers, step, mark, each } = *way;
        let (handles, mut consumer) = new(block, slots, producers, Bounds::new(bounds)).unwrap();
        thread::scope(|scope| {
            for _ in 0..producers {
                let handles = handles.clone();
                scope.spawn(move || {
                    let mut producer = handles.register();
                    while let Some(segment) = producer.next_segment() {
                        fill(segment, step, each).unwrap();
                    }
                });
            }
            drain(&mut consumer, mark, total).unwrap()
        })
    }

    fn offsets(lengths: &[u64]) -> Vec<u64> {
        std::iter::once(0)
            .chain(lengths.iter().scan(0, |at, n| {
                *at += n;
                Some(*at)
            }))
            .collect()
    }

    /// Miri is slow, and ThreadSanitizer too.
    const CASES: u32 = if cfg!(miri) {
        4
    } else if cfg!(sanitize_thread) {
        20
    } else {
        200
    };

    proptest! {
        #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

        /// Any cut into segments, any geometry, any number of producers: the same stream.
        #[test]
        fn any_interleaving_yields_the_same_stream(
            block in 1usize..40,
            slots in 1usize..9,
            lengths in prop::collection::vec(1u64..120, 0..60),
            producers in 1usize..9,
            step in 1usize..64,
            mark in 1u64..12,
            each: bool,
        ) {
            let total = lengths.iter().sum::<u64>();
            let way = Way { ring: (block, slots), producers, step, mark, each };
            prop_assert_eq!(run(offsets(&lengths), &way), total);
        }

        /// Any geometry, any number of readers, each slot read by several of them: each sees what was filled.
        #[test]
        fn every_reader_sees_what_was_filled(
            size in 1usize..40,
            slots in 1usize..9,
            readers in 1usize..6,
            mark in 1usize..12,
            rounds in 1u64..120,
        ) {
            let (mut filler, stopper) = fan_out(size, slots).unwrap();
            filler.set_mark(mark);
            let seen: u64 = thread::scope(|scope| {
                let (senders, threads): (Vec<_>, Vec<_>) = (0..readers).map(|_| {
                    let (send, receive) = std::sync::mpsc::channel::<(u64, Filled)>();
                    let thread = scope.spawn(move || {
                        let mut seen = 0;
                        for (round, filled) in receive {
                            assert!(filled.iter().enumerate().all(|(i, &byte)| byte == expected(round * 64 + i as u64)));
                            seen += 1;
                        }
                        seen
                    });
                    (send, thread)
                }).unzip();
                for round in 0..rounds {
                    let mut slot = filler.slot().unwrap();
                    let len = (round as usize * 7) % (size + 1);
                    for (i, byte) in slot[..len].iter_mut().enumerate() {
                        *byte = expected(round * 64 + i as u64);
                    }
                    let filled = slot.publish(len);
                    senders.iter().for_each(|send| send.send((round, filled.clone())).unwrap());
                }
                drop(senders);
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            prop_assert_eq!(seen, rounds * readers as u64);
            prop_assert_eq!(stopper.fill(), 0, "all came back");
        }

        /// Stopped at any moment, nobody waits for ever and no wrong byte was taken.
        #[test]
        fn stopped_at_any_moment(after in 0u64..400, producers in 1usize..6, mark in 1u64..5) {
            let (handles, mut consumer) = new(16, 3, producers, Bounds::new(offsets(&[40; 100]))).unwrap();
            thread::scope(|scope| {
                for _ in 0..producers {
                    let handles = handles.clone();
                    scope.spawn(move || {
                        let mut producer = handles.register();
                        while let Some(segment) = producer.next_segment() {
                            if fill(segment, 7, true).is_err() {
                                break;
                            }
                        }
                    });
                }
                let stopper = handles.stopper();
                scope.spawn(move || {
                    while stopper.published() < after * 10 {
                        thread::yield_now();
                    }
                    stopper.stop();
                });
                if let Ok(taken) = drain(&mut consumer, mark, 4000) {
                    assert_eq!(taken, 4000);
                }
                drop(consumer);
            });
        }
    }

    #[test]
    fn a_panicking_producer_stops_the_ring() {
        let (handles, mut consumer) = new(8, 2, 1, Bounds::new([0, 100])).unwrap();
        let producer = thread::spawn(move || {
            let mut producer = handles.register();
            let _segment = producer.next_segment().unwrap();
            std::panic::resume_unwind(Box::new("the producer dies"));
        });
        assert_eq!(consumer.wait(1), Err(Stopped));
        assert!(producer.join().is_err());
    }

    #[test]
    fn held_bytes_can_be_taken_back() {
        let (handles, mut consumer) = new(4, 4, 1, Bounds::new([0, 6])).unwrap();
        let mut producer = handles.register();
        let mut segment = producer.next_segment().unwrap();
        segment.put(&[9; 6]).unwrap();
        assert!(segment.rewind(0));
        segment.put(&[expected(0)]).unwrap();
        segment.publish();
        assert!(!segment.rewind(0), "what is published cannot be taken back");
        fill(segment, 6, false).unwrap();
        assert_eq!(drain(&mut consumer, 1, 6), Ok(6));
        assert_eq!(consumer.wait(1), Ok(false));
    }

    #[test]
    fn a_segment_that_nobody_vouched_for_does_not_count() {
        let (handles, mut consumer) = new(4, 4, 1, Bounds::new([0, 4])).unwrap();
        let mut producer = handles.register();
        let mut segment = producer.next_segment().unwrap();
        segment.put(&[9; 4]).unwrap();
        drop(segment);
        assert_eq!(consumer.wait(1), Err(Stopped));
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn overlapping_segments_are_refused() {
        Bounds::new([0, 5, 5]);
    }

    /// Long and random, for ThreadSanitizer (`make stress`); prints its figures.
    #[test]
    #[ignore = "long: make stress"]
    fn stress() {
        let seconds = std::env::var("STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
        let begin = std::time::Instant::now();
        let (mut rounds, mut bytes, mut seed) = (0u64, 0u64, 0x2545_F491_4F6C_DD1Du64);
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        while begin.elapsed().as_secs() < seconds {
            let block = 1 + random(64) as usize;
            let slots = 1 + random(8) as usize;
            let lengths: Vec<u64> = (0..random(300)).map(|_| 1 + random(200)).collect();
            let producers = 1 + random(6) as usize;
            let (step, mark, each) = (1 + random(64) as usize, 1 + random(9), random(2) == 0);
            bytes += run(offsets(&lengths), &Way { ring: (block, slots), producers, step, mark, each });
            rounds += 1;
        }
        println!("ring stress: {rounds} streams, {bytes} bytes, each byte checked, {seconds} s");
        assert!(rounds > 0 && bytes > 0);
    }
}
