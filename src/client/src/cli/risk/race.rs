//! The race between a payment and its double spend, played with dice: a check of the formulas that uses neither.

use leyden_consensus::risk::RaceModel;
use rand::{Rng as _, rngs::StdRng};

/// From this share on a race may go on for millions of blocks before it is decided.
pub(super) const MOST_SHARE: f64 = 0.49;
/// The attacker gives up when its chance to catch up is below this: far less than what any number of races could show.
const HOPELESS: f64 = 1e-12;
/// Below so many wins to be expected, a distance in standard errors says nothing.
const FEWEST_WINS: f64 = 10.0;

/// How many of so many races an attacker won.
#[derive(Clone, Copy)]
pub(super) struct Races {
    pub(super) won: u32,
    pub(super) run: u32,
}

impl Races {
    /// Races of an attacker with this share against so many confirmations, below [`MOST_SHARE`].
    pub(super) fn run(share: f64, confirmations: u32, run: u32, dice: &mut StdRng) -> Self {
        // A throw of 64 bits below this is the attacker's block.
        let attackers = (share * 2_f64.powi(64)) as u64;
        let give_up = (HOPELESS.ln() / (share / (1.0 - share)).ln()).ceil().min(f64::from(i32::MAX)) as i64;
        let won = (0..run).filter(|_| is_won(confirmations, || dice.next_u64() < attackers, give_up)).count();
        Self { won: u32::try_from(won).unwrap_or(run), run }
    }

    pub(super) fn success(self) -> f64 {
        f64::from(self.won) / f64::from(self.run)
    }

    /// The standard error of [`Self::success`], estimated from itself.
    pub(super) fn standard_error(self) -> f64 {
        let success = self.success();
        (success * (1.0 - success) / f64::from(self.run)).sqrt()
    }

    /// How many standard errors lie between what was seen and what the exact formula says, if they say anything.
    pub(super) fn distance(self, share: f64, confirmations: u32) -> Option<f64> {
        let exact = RaceModel::NegativeBinomial.attacker_success(share, confirmations);
        let run = f64::from(self.run);
        let decided = run * exact >= FEWEST_WINS && run * (1.0 - exact) >= FEWEST_WINS;
        decided.then(|| (self.success() - exact) / (exact * (1.0 - exact) / run).sqrt())
    }
}

/// One race: the merchant waits for `confirmations` blocks, then the attacker goes on until it is level or gives up.
fn is_won(confirmations: u32, mut is_attackers: impl FnMut() -> bool, give_up: i64) -> bool {
    let (mut honest, mut behind) = (0, 0_i64);
    while honest < confirmations || (0 < behind && behind < give_up) {
        if is_attackers() {
            behind -= 1;
        } else {
            behind += 1;
            honest += 1;
        }
    }
    behind <= 0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn races_come_out_as_the_exact_formula_says() {
        let mut dice = StdRng::seed_from_u64(1);
        let (mut compared, mut of_paper) = (0, 0.0_f64);
        for (share, confirmations) in [(0.1, 1), (0.1, 2), (0.1, 3), (0.3, 5), (0.3, 10), (0.4, 20), (0.45, 10)] {
            let races = Races::run(share, confirmations, 20_000, &mut dice);
            let distance = races.distance(share, confirmations).unwrap();
            assert!(distance.abs() < 4.5, "q {share} z {confirmations}: {distance} standard errors");
            let paper = RaceModel::Poisson.attacker_success(share, confirmations);
            of_paper = of_paper.max((races.success() - paper).abs() / races.standard_error());
            compared += 1;
        }
        assert_eq!(compared, 7);
        assert!(of_paper > 8.0, "so many races tell the paper's approximation from the truth: {of_paper}");
    }

    #[test]
    fn race_goes_on_after_the_merchant_delivered() {
        let play = |throws: &[bool]| {
            let mut throws = throws.iter();
            is_won(2, || *throws.next().unwrap(), 3)
        };
        assert!(play(&[false, true, true, false]), "level when the merchant has seen two");
        assert!(play(&[false, false, true, true]), "level later");
        assert!(!play(&[false, false, false]), "three behind: given up");
        assert!(is_won(0, || unreachable!(), 3), "nobody waits");
    }

    #[test]
    fn too_few_wins_are_not_compared() {
        assert!(Races { won: 0, run: 1_000 }.distance(0.1, 10).is_none());
    }
}
