//! Long lists on all processors.

use std::{panic::resume_unwind, thread};

/// Below so many items a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1_000;
/// Threads of one list: the node has other work.
const MOST_THREADS: usize = 4;

/// What is made of each item, in their order. For threads that may take their time.
pub(crate) fn map<T: Sync, U: Send>(items: &[T], convert: impl Fn(&T) -> U + Sync) -> Vec<U> {
    map_some(items, usize::MAX, |some, made| made.extend(some.iter().map(&convert)))
}

/// What is added to the list for some items at a time, `most` at most, in their order. For threads that may take their time.
pub(crate) fn map_some<T: Sync, U: Send>(
    items: &[T],
    most: usize,
    convert: impl Fn(&[T], &mut Vec<U>) + Sync,
) -> Vec<U> {
    let part = |part: &[T]| {
        let mut made = Vec::with_capacity(part.len());
        part.chunks(most).for_each(|some| convert(some, &mut made));
        made
    };
    let mut all = Vec::new();
    at_once(items.chunks(share(items.len())), part, |made| {
        // Memory that was never used is dear: the first part grows to the whole.
        if all.is_empty() {
            all = made;
            all.reserve_exact(items.len().saturating_sub(all.len()));
        } else {
            all.extend(made);
        }
    });
    all
}

/// The same of a few items, each of which is much work.
pub(crate) fn map_few<T: Sync, U: Send>(items: &[T], convert: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let mut all = Vec::with_capacity(items.len());
    let part = |part: &[T]| part.iter().map(&convert).collect::<Vec<U>>();
    at_once(items.chunks(items.len().div_ceil(threads()).max(1)), part, |made| all.extend(made));
    all
}

/// The sum of what is counted of each item. For threads that may take their time.
pub(crate) fn sum<T: Sync>(items: &[T], count: impl Fn(&T) -> usize + Sync) -> usize {
    let mut sum = 0;
    let count = |part: &[T]| part.iter().map(&count).sum::<usize>();
    at_once(items.chunks(share(items.len())), count, |counted| sum += counted);
    sum
}

/// How many items a thread takes.
fn share(items: usize) -> usize {
    items.div_ceil(threads()).max(WORTH_A_THREAD)
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// A thread for each part but the last, which the caller's own does; what they make is taken in the order of the parts.
fn at_once<P: Send, U: Send>(parts: impl Iterator<Item = P>, work: impl Fn(P) -> U + Sync, mut take: impl FnMut(U)) {
    let mut parts = parts.peekable();
    thread::scope(|scope| {
        let work = &work;
        let mut threads = Vec::new();
        let mut last = None;
        while let Some(part) = parts.next() {
            match parts.peek() {
                Some(_) => threads.push(scope.spawn(move || work(part))),
                None => last = Some(work(part)),
            }
        }
        for thread in threads {
            take(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        last.map(take);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 5] = [0, 1, WORTH_A_THREAD, 2 * WORTH_A_THREAD, 10 * WORTH_A_THREAD + 7];

    #[test]
    fn a_list_keeps_its_order_however_long_it_is() {
        for length in LENGTHS {
            let items: Vec<usize> = (0..length).collect();
            assert!(map(&items, |item| item * 2).into_iter().eq((0..length).map(|item| item * 2)));
            assert_eq!(map_few(&items, |item| *item), items);
            let twos = map_some(&items, 2, |some, made| {
                assert!((1..=2).contains(&some.len()));
                made.extend_from_slice(some);
            });
            assert_eq!(twos, items);
        }
    }

    #[test]
    fn every_item_is_counted_once_however_many_there_are() {
        for length in LENGTHS {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(sum(&items, |item| 3 * item), 3 * (0..length).sum::<usize>());
        }
    }
}
