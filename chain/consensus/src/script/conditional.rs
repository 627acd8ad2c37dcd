//! Which branch of nested `IF`s is being executed.
//!
//! ```text
//!   IF true │ IF false │ IF true │ …     depth 3, executing: no, because of the second
//! ```
//!
//! All that can be observed is how deep the nesting is and whether every level is true. So it is enough to keep the
//! depth and the position of the first false level: a toggle at any deeper level changes nothing, and every
//! operation takes constant time however deep a script nests.

/// The nesting of conditionals at one point of a script.
#[derive(Debug, Default)]
pub(super) struct Conditionals {
    depth: usize,
    first_false: Option<usize>,
}

impl Conditionals {
    /// Whether the instructions here are executed.
    pub(super) fn executing(&self) -> bool {
        self.first_false.is_none()
    }

    /// Whether every `IF` has had its `ENDIF`.
    pub(super) fn is_balanced(&self) -> bool {
        self.depth == 0
    }

    /// `IF`: one level deeper.
    pub(super) fn enter(&mut self, condition: bool) {
        if !condition && self.first_false.is_none() {
            self.first_false = Some(self.depth);
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// `ELSE`: the other branch of the innermost level. Tells whether there is a level at all.
    pub(super) fn toggle(&mut self) -> bool {
        let Some(innermost) = self.depth.checked_sub(1) else { return false };
        match self.first_false {
            None => self.first_false = Some(innermost),
            Some(level) if level == innermost => self.first_false = None,
            Some(_) => {}
        }
        true
    }

    /// `ENDIF`: one level up. Tells whether there was a level at all.
    pub(super) fn leave(&mut self) -> bool {
        let Some(innermost) = self.depth.checked_sub(1) else { return false };
        self.depth = innermost;
        if self.first_false == Some(innermost) {
            self.first_false = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_stack_of_conditions(steps in prop::collection::vec(0u8..4, 0..60)) {
            let mut model: Vec<bool> = vec![];
            let mut tested = Conditionals::default();
            for step in steps {
                match step {
                    0 | 1 => {
                        model.push(step == 1);
                        tested.enter(step == 1);
                    }
                    2 => {
                        let top = model.last_mut();
                        prop_assert_eq!(tested.toggle(), top.is_some());
                        if let Some(top) = top {
                            *top = !*top;
                        }
                    }
                    _ => prop_assert_eq!(tested.leave(), model.pop().is_some()),
                }
                prop_assert_eq!(tested.is_balanced(), model.is_empty());
                prop_assert_eq!(tested.executing(), model.iter().all(|level| *level));
            }
        }
    }
}
