//! Long lists on all processors.

use std::{panic::resume_unwind, thread};

/// Below so many items a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1_000;
/// Threads of one list: the node has other work.
const MOST_THREADS: usize = 4;

/// What is made of each item, in their order. For threads that may take their time.
pub(crate) fn map<T: Sync, U: Send>(items: &[T], convert: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    if threads < 2 || items.len() < 2 * WORTH_A_THREAD {
        return items.iter().map(convert).collect();
    }
    let share = items.len().div_ceil(threads).max(WORTH_A_THREAD);
    let mut all = Vec::with_capacity(items.len());
    thread::scope(|scope| {
        let convert = &convert;
        let parts: Vec<_> =
            items.chunks(share).map(|part| scope.spawn(move || part.iter().map(convert).collect::<Vec<U>>())).collect();
        for part in parts {
            all.extend(part.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_however_long_it_is() {
        for length in [0, 1, WORTH_A_THREAD, 2 * WORTH_A_THREAD, 10 * WORTH_A_THREAD + 7] {
            let items: Vec<usize> = (0..length).collect();
            assert!(map(&items, |item| item * 2).into_iter().eq((0..length).map(|item| item * 2)));
        }
    }
}
