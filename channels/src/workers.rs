//! Who does the independent pieces of a large piece of work.
//!
//! The core knows no threads. A commitment of a hundred HTLCs is a hundred signatures that do not depend on each other: a
//! node that has several cores lends them by an implementation of [`Workers`].

use std::sync::OnceLock;

/// Does pieces of work, at the same time if it can.
pub trait Workers: Sync {
    /// Calls `piece` once with each number below `pieces`, in any order and on any threads, and returns when all are done.
    fn share(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync));
}

/// One piece after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneThread;

impl Workers for OneThread {
    fn share(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        (0..pieces).for_each(piece);
    }
}

/// Signatures that are made or checked in one piece: some 100 µs, several times what it takes to wake another thread.
const PIECE: usize = 4;
/// Below that all is done at once here.
const LEAST_SHARED: usize = 2 * PIECE;

/// What `one` makes of each of `items`, in their order.
pub(crate) fn map<T: Sync, R: Send + Sync>(workers: &dyn Workers, items: &[T], one: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < LEAST_SHARED {
        return items.iter().map(one).collect();
    }
    let pieces: Vec<(&[T], OnceLock<Vec<R>>)> = items.chunks(PIECE).map(|piece| (piece, OnceLock::new())).collect();
    workers.share(pieces.len(), &|index| {
        if let Some((items, results)) = pieces.get(index) {
            results.get_or_init(|| items.iter().map(&one).collect());
        }
    });
    // Whatever a worker has left out is done here.
    let result = |(items, results): (&[T], OnceLock<Vec<R>>)| {
        results.into_inner().unwrap_or_else(|| items.iter().map(&one).collect())
    };
    pieces.into_iter().flat_map(result).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A thread for each piece, and the last piece is forgotten.
    struct Careless;

    impl Workers for Careless {
        fn share(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
            thread::scope(|scope| {
                for index in (1..pieces).rev() {
                    scope.spawn(move || piece(index - 1));
                }
            });
        }
    }

    #[test]
    fn results_come_in_order_whoever_has_made_them() {
        for count in [0, 1, LEAST_SHARED - 1, LEAST_SHARED, 101] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&OneThread, &items, |item| item * 2), doubled);
            assert_eq!(map(&Careless, &items, |item| item * 2), doubled);
        }
    }
}
