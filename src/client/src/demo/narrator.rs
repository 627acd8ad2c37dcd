//! Tells the story and keeps the score.

use super::DemoError;

/// Prints what happens, and remembers every figure that was not as expected.
#[derive(Debug, Default)]
pub struct Narrator {
    step: u32,
    differences: Vec<String>,
}

impl Narrator {
    /// A new part of the story; its steps are counted on.
    pub fn chapter(&mut self, title: &str) {
        println!("\n== {title} ==");
    }

    /// A new step of the story.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        println!("\n{}. {text}", self.step);
    }

    /// A line below the present step.
    pub fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Compares a figure, in satoshi, with what it should be.
    pub fn check(&mut self, what: &str, expected: i64, got: i64) {
        let mark = if expected == got { "✓" } else { "✗" };
        println!("   {mark} {what:<44} {}", coins(got));
        if expected != got {
            println!("     expected {}", coins(expected));
            self.differences.push(format!("{what} is {}, not {}", coins(got), coins(expected)));
        }
    }

    /// Something that must hold.
    pub fn require(&mut self, what: &str, holds: bool) {
        println!("   {} {what}", if holds { "✓" } else { "✗" });
        if !holds {
            self.differences.push(format!("it does not hold that {what}"));
        }
    }

    /// The last line. [`DemoError::Differs`] if a figure was not as expected.
    pub fn finish(self) -> Result<(), DemoError> {
        if self.differences.is_empty() {
            println!("\ndemo: all balances as expected");
            Ok(())
        } else {
            Err(DemoError::Differs(self.differences))
        }
    }
}

/// An amount as people write it: 0.50000000.
pub(super) fn coins(sat: i64) -> String {
    let sign = if sat < 0 { "-" } else { "" };
    let sat = sat.unsigned_abs();
    format!("{sign}{}.{:08}", sat / 100_000_000, sat % 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_coins() {
        assert_eq!(coins(50_000_000), "0.50000000");
        assert_eq!(coins(-1), "-0.00000001");
    }

    #[test]
    fn a_difference_fails_the_demo() {
        let mut narrator = Narrator::default();
        narrator.check("same", 1, 1);
        narrator.check("other", 1, 2);
        assert!(matches!(narrator.finish(), Err(DemoError::Differs(list)) if list.len() == 1));
    }
}
