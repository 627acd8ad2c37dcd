//! A set that forgets its oldest members instead of growing beyond a size.

use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
pub(crate) struct BoundedSet<T> {
    /// With the number of its place in the order.
    members: BTreeMap<T, u64>,
    order: VecDeque<(u64, T)>,
    next: u64,
    capacity: usize,
}

impl<T: Ord + Copy> BoundedSet<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { members: BTreeMap::new(), order: VecDeque::new(), next: 0, capacity }
    }

    /// Adds a member; false if it was there before.
    pub(crate) fn insert(&mut self, member: T) -> bool {
        if self.members.contains_key(&member) {
            return false;
        }
        self.members.insert(member, self.next);
        self.order.push_back((self.next, member));
        self.next = self.next.wrapping_add(1);
        if self.order.len() > self.capacity
            && let Some((place, oldest)) = self.order.pop_front()
            && self.members.get(&oldest) == Some(&place)
        {
            self.members.remove(&oldest);
        }
        true
    }

    /// Its place in the order stays until it is the oldest.
    pub(crate) fn remove(&mut self, member: &T) {
        self.members.remove(member);
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
        set.remove(&3);
        assert!(set.insert(3) && !set.insert(3));
    }
}
