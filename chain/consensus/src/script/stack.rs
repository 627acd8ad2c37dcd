//! The stack of a script, and the operations that only move items about.
//!
//! No operation makes an item longer than a hash: items are either slices of the script or the witness, or at most 32
//! bytes that were computed. Both are plain copies, so a stack never allocates for an item.

use super::error::ScriptError;
use super::number;

/// One item. `'s` is the lifetime of the scripts and the witness.
#[derive(Clone, Copy)]
pub(super) enum Item<'s> {
    /// Bytes of a script or a witness.
    Slice(&'s [u8]),
    /// A number or a hash.
    Computed { bytes: [u8; 32], length: u8 },
}

impl<'s> Item<'s> {
    pub(super) const FALSE: Self = Self::Slice(&[]);
    pub(super) const TRUE: Self = Self::Slice(&[1]);

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Computed { bytes, length } => bytes.get(..usize::from(*length)).unwrap_or_default(),
        }
    }

    pub(super) fn from_bool(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    pub(super) fn from_number(value: i64) -> Self {
        let encoded = number::encode(value);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(encoded.bytes) {
            *to = from;
        }
        Self::Computed { bytes, length: encoded.length }
    }

    pub(super) fn from_hash20(hash: [u8; 20]) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(hash) {
            *to = from;
        }
        Self::Computed { bytes, length: 20 }
    }

    pub(super) fn from_hash32(bytes: [u8; 32]) -> Self {
        Self::Computed { bytes, length: 32 }
    }

    pub(super) fn is_true(&self) -> bool {
        number::is_true(self.bytes())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

/// The main stack. Positions count from the top: 0 is the last item pushed.
#[derive(Clone, Default)]
pub(super) struct Stack<'s> {
    items: Vec<Item<'s>>,
}

const SHORT: ScriptError = ScriptError::InvalidStackOperation;

impl<'s> Stack<'s> {
    pub(super) fn with_capacity(items: usize) -> Self {
        Self { items: Vec::with_capacity(items) }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// From the bottom to the top.
    pub(super) fn items(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(Item::bytes)
    }

    pub(super) fn push(&mut self, item: Item<'s>) {
        self.items.push(item);
    }

    pub(super) fn pop(&mut self) -> Result<Item<'s>, ScriptError> {
        self.items.pop().ok_or(SHORT)
    }

    /// Fails unless there are at least `count` items.
    pub(super) fn need(&self, count: usize) -> Result<(), ScriptError> {
        if self.items.len() < count { Err(SHORT) } else { Ok(()) }
    }

    fn index(&self, position: usize) -> Result<usize, ScriptError> {
        self.items.len().checked_sub(1).and_then(|top| top.checked_sub(position)).ok_or(SHORT)
    }

    pub(super) fn top(&self, position: usize) -> Result<&Item<'s>, ScriptError> {
        self.items.get(self.index(position)?).ok_or(SHORT)
    }

    /// Reads the item at `position` as an ordinary operand.
    pub(super) fn number(&self, position: usize, minimal: bool) -> Result<i64, ScriptError> {
        number::decode(self.top(position)?.bytes(), minimal, number::OPERAND)
    }

    /// Takes `count` items away.
    pub(super) fn drop_items(&mut self, count: usize) -> Result<(), ScriptError> {
        let left = self.items.len().checked_sub(count).ok_or(SHORT)?;
        self.items.truncate(left);
        Ok(())
    }

    /// Pushes copies of the items at `deepest`, and of the `count - 1` above it, in their order.
    pub(super) fn copy(&mut self, deepest: usize, count: usize) -> Result<(), ScriptError> {
        for _ in 0..count {
            // Each push moves the next wanted item to the same distance from the top.
            let item = *self.top(deepest)?;
            self.items.push(item);
        }
        Ok(())
    }

    /// Moves the item at `position` to the top.
    pub(super) fn roll(&mut self, position: usize) -> Result<(), ScriptError> {
        let index = self.index(position)?;
        self.items.get_mut(index..).ok_or(SHORT)?.rotate_left(1);
        Ok(())
    }

    /// Exchanges the items at two positions.
    pub(super) fn swap(&mut self, one: usize, other: usize) -> Result<(), ScriptError> {
        let (one, other) = (self.index(one)?, self.index(other)?);
        self.items.swap(one, other);
        Ok(())
    }

    /// Takes the item below the top away.
    pub(super) fn nip(&mut self) -> Result<(), ScriptError> {
        self.swap(0, 1)?;
        self.drop_items(1)
    }

    /// Puts a copy of the top below the second item.
    pub(super) fn tuck(&mut self) -> Result<(), ScriptError> {
        self.need(2)?;
        self.swap(0, 1)?;
        self.copy(1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(items: &[u8]) -> Stack<'static> {
        let mut stack = Stack::default();
        for item in items {
            stack.push(Item::from_number(i64::from(*item)));
        }
        stack
    }

    fn values(stack: &Stack<'_>) -> Vec<u8> {
        stack.items.iter().map(|item| item.bytes().first().copied().unwrap_or(0)).collect()
    }

    #[test]
    fn items_move_as_their_operations_say() {
        let mut tested = stack(&[1, 2, 3]);
        tested.roll(2).unwrap();
        assert_eq!(values(&tested), [2, 3, 1]);
        tested.tuck().unwrap();
        assert_eq!(values(&tested), [2, 1, 3, 1]);
        tested.nip().unwrap();
        assert_eq!(values(&tested), [2, 1, 1]);
        let mut tested = stack(&[1, 2, 3, 4]);
        tested.copy(3, 2).unwrap();
        assert_eq!(values(&tested), [1, 2, 3, 4, 1, 2]);
        assert_eq!(tested.drop_items(7), Err(SHORT));
        assert_eq!(tested.roll(6), Err(SHORT));
    }
}
