//! A set that forgets its oldest members instead of growing beyond a size.

use std::collections::{BTreeSet, VecDeque};

#[derive(Clone, Debug)]
pub(crate) struct BoundedSet<T> {
    members: BTreeSet<T>,
    order: VecDeque<T>,
    capacity: usize,
}

impl<T: Ord + Copy> BoundedSet<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { members: BTreeSet::new(), order: VecDeque::new(), capacity }
    }

    /// Adds a member; false if it was there before.
    pub(crate) fn insert(&mut self, member: T) -> bool {
        if !self.members.insert(member) {
            return false;
        }
        self.order.push_back(member);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_members_are_forgotten() {
        let mut set = BoundedSet::new(2);
        assert!(set.insert(1) && set.insert(2) && !set.insert(1) && set.insert(3));
        assert!(set.insert(1) && !set.insert(3));
    }
}
