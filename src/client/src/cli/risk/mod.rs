//! `leyden risk`: how many confirmations are enough. The white paper's section 11, with the exact numbers beside its own.

mod plot;
mod race;

use std::{fs, path::PathBuf};

use clap::Args;
use leyden_consensus::risk::RaceModel::{self, NegativeBinomial, Poisson};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use self::{
    plot::{Curve, Point},
    race::Races,
};
use super::{CliError, Context, amount::Sat, table};

/// Show how likely it is that somebody who mines in secret undoes a payment.
///
/// An attacker with the share q of all hash rate prepares a chain without the payment, while the merchant waits for z
/// blocks. Without further options the white paper's three tables are printed, and beside its numbers the exact ones and
/// what races with dice give. Needs no node.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden risk                                       the white paper's tables\n  \
    leyden risk --attacker 0.1\n  \
    leyden risk --attacker 30% --z 0,5,…,50 --svg risk.svg\n  \
    leyden risk --below 0.001                         the fewest confirmations, for attackers of 10 % to 45 %\n  \
    leyden risk --below 0.001 --attacker 0.33\n  \
    leyden risk --amount 0.5btc --budget 1000         what `leydend --risk-budget 1000` waits for\n\n\
    The white paper reckons with the blocks that the attacker finds in the time that z blocks take on average (a Poisson\n\
    distribution). But that time is chance too, and the attacker gets ahead when the others are unlucky. So its numbers are\n\
    too small, by more the larger z is. The exact ones (negative binomial distribution) are what the node chooses depths by.")]
pub struct Risk {
    /// Share of the hash rate that the attacker has, such as 0.1 or 10%; several with commas
    #[arg(long, value_name = "Q", value_delimiter = ',', value_parser = share)]
    attacker: Vec<f64>,
    /// Confirmations to show, such as 0,1,2 or 0,5,…,50 [default: 0,1,…,10]
    #[arg(long, value_name = "LIST", value_parser = series, conflicts_with = "below")]
    z: Option<Series>,
    /// Show the fewest confirmations that keep the attacker's chance below this
    #[arg(long, value_name = "P", value_parser = chance)]
    below: Option<f64>,
    /// Show the fewest confirmations with which a payment of this amount loses no more than --budget on average
    #[arg(long, requires = "budget", conflicts_with_all = ["below", "z"])]
    amount: Option<Sat>,
    /// What a double spend of --amount may cost on average, in sat
    #[arg(long, requires = "amount")]
    budget: Option<Sat>,
    /// Races with dice for each line; 0 for none
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    races: u32,
    /// Seed of the dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also draw the chances into this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["below", "amount"])]
    svg: Option<PathBuf>,
}

/// Below all tables.
const WHICH: &str = "white paper: an approximation, too small from the second confirmation on (--help says why);\n\
    exact: what the node chooses a channel's depth by";

/// The shares of the white paper's last table.
const SHARES: [f64; 8] = [0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45];
/// More confirmations than anybody waits for: on a chain with ten-minute blocks they take two years.
const MOST_BELOW: u32 = 100_000;
/// The largest number of confirmations with races, which take the longer the more of them there are.
const MOST_Z: u32 = 10_000;
/// The most lines of one table.
const MOST_LINES: usize = 1_000;

/// Confirmations, as the command line lists them.
#[derive(Clone, Debug)]
struct Series(Vec<u32>);

impl Risk {
    /// Prints the tables.
    pub fn run(self, context: &Context) -> Result<(), CliError> {
        let mut dice = StdRng::seed_from_u64(self.seed);
        let mut curve = |share: f64, confirmations: &[u32]| {
            let progress = context.progress(confirmations.len() as u64);
            let points = confirmations.iter().map(|z| {
                progress.inc(1);
                self.line(share, *z, &mut dice)
            });
            let lines = points.collect();
            progress.finish_and_clear();
            Table { share, lines }
        };
        let up_to_ten: Vec<u32> = (0..=10).collect();
        let below = match (self.amount, self.budget) {
            (Some(Sat(amount)), Some(Sat(budget))) if amount > 0 => Some(budget as f64 / amount as f64),
            (Some(_), _) => return Err(CliError::Usage("--amount must be at least 1 sat".to_owned())),
            (None, _) => self.below,
        };
        let whole_paper = self.attacker.is_empty() && self.z.is_none() && below.is_none();
        let (tables, limits) = if whole_paper {
            let fives: Vec<u32> = (0..=50).step_by(5).collect();
            (vec![curve(0.1, &up_to_ten), curve(0.3, &fives)], Some(Limits::new(0.001, &SHARES)))
        } else if let Some(below) = below {
            let shares = if self.attacker.is_empty() { &SHARES } else { self.attacker.as_slice() };
            (Vec::new(), Some(Limits::new(below, shares)))
        } else {
            let shares = if self.attacker.is_empty() { &[0.1] } else { self.attacker.as_slice() };
            let z = self.z.as_ref().map_or(up_to_ten.as_slice(), |series| series.0.as_slice());
            (shares.iter().map(|share| curve(*share, z)).collect(), None)
        };
        let curves: Vec<Curve> = tables.iter().map(Table::curve).collect();
        if let Some(path) = &self.svg {
            let what = path.display().to_string();
            fs::write(path, plot::in_svg(&curves)).map_err(|source| CliError::Io { what, source })?;
        }
        let value = json!({
            "seed": self.seed,
            "tables": tables.iter().map(Table::value).collect::<Vec<_>>(),
            "below": limits.as_ref().map(Limits::value),
        });
        context.show_value(&value, || {
            let mut parts = Vec::new();
            for (table, curve) in tables.iter().zip(&curves) {
                parts.push(table.text());
                if !whole_paper {
                    parts.push(plot::in_letters(curve));
                }
            }
            parts.extend(limits.as_ref().map(Limits::text));
            parts.extend(self.on_races(&tables));
            parts.push(WHICH.to_owned());
            if let Some(path) = &self.svg {
                parts.push(format!("drawn into {}", path.display()));
            }
            parts.join("\n\n")
        })
    }

    fn line(&self, share: f64, confirmations: u32, dice: &mut StdRng) -> Line {
        let raced = self.races > 0 && share < race::MOST_SHARE && confirmations <= MOST_Z;
        Line {
            confirmations,
            paper: Poisson.attacker_success(share, confirmations),
            exact: NegativeBinomial.attacker_success(share, confirmations),
            races: raced.then(|| Races::run(share, confirmations, self.races, dice)),
        }
    }

    /// How the races compare with the exact formula, if there were any that can be compared.
    fn on_races(&self, tables: &[Table]) -> Option<String> {
        let distances = tables.iter().flat_map(Table::distances).collect::<Vec<_>>();
        let largest = distances.iter().copied().max_by(|one, other| one.abs().total_cmp(&other.abs()))?;
        let (races, seed, lines) = (self.races, self.seed, distances.len());
        Some(format!(
            "races: {races} a line, seed {seed}, with one standard error; of {lines} lines with enough wins to tell, the\n\
             farthest from the exact number is {:.1} standard errors away",
            largest.abs()
        ))
    }
}

/// What is known of an attacker after so many confirmations.
struct Line {
    confirmations: u32,
    paper: f64,
    exact: f64,
    races: Option<Races>,
}

/// One attacker's lines.
struct Table {
    share: f64,
    lines: Vec<Line>,
}

impl Table {
    fn distances(&self) -> impl Iterator<Item = f64> {
        self.lines.iter().filter_map(|line| line.races?.distance(self.share, line.confirmations))
    }

    fn curve(&self) -> Curve {
        let point = |line: &Line| Point {
            confirmations: line.confirmations,
            paper: line.paper,
            exact: line.exact,
            races: line.races.map(|races| (races.success(), races.standard_error())),
        };
        Curve { share: self.share, points: self.lines.iter().map(point).collect() }
    }

    fn value(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "z": line.confirmations,
                "white_paper": line.paper,
                "exact": line.exact,
                "races": line.races.map(|races| json!({
                    "run": races.run,
                    "won": races.won,
                    "success": races.success(),
                    "standard_error": races.standard_error(),
                })),
            })
        });
        json!({ "attacker": self.share, "lines": lines.collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        let rows = self.lines.iter().map(|line| {
            let races = match line.races {
                None => "-".to_owned(),
                Some(Races { won: 0, run }) => format!("none of {run}"),
                Some(races) => format!("{:.7} ± {:.7}", races.success(), races.standard_error()),
            };
            [line.confirmations.to_string(), probability(line.paper), probability(line.exact), races]
        });
        let list = table::list([">z", ">P, white paper", ">P, exact", ">~P, races"], rows.collect(), "");
        format!("q = {}\n{list}", self.share)
    }
}

/// As the white paper prints it, and with three digits where that would show none.
fn probability(value: f64) -> String {
    if value == 0.0 || value >= 0.000_000_1 { format!("{value:.7}") } else { format!("{value:.2e}") }
}

/// The fewest confirmations for a risk, by both formulas.
struct Limits {
    below: f64,
    shares: Vec<ShareLimit>,
}

struct ShareLimit {
    share: f64,
    paper: Option<u32>,
    exact: Option<u32>,
}

impl Limits {
    fn new(below: f64, shares: &[f64]) -> Self {
        let fewest = |model: RaceModel, share| model.confirmations_for_risk(share, below, MOST_BELOW);
        let of = |share: &f64| ShareLimit {
            share: *share,
            paper: fewest(Poisson, *share),
            exact: fewest(NegativeBinomial, *share),
        };
        Self { below, shares: shares.iter().map(of).collect() }
    }

    fn value(&self) -> Value {
        let shares = self
            .shares
            .iter()
            .map(|limit| json!({ "attacker": limit.share, "white_paper": limit.paper, "exact": limit.exact }));
        json!({ "probability": self.below, "fewest": shares.collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        let count = |count: Option<u32>| match count {
            Some(count) => count.to_string(),
            None => format!("more than {MOST_BELOW}"),
        };
        let rows = self.shares.iter().map(|limit| {
            // What is left of the risk for who relies on the paper's number.
            let left = limit
                .paper
                .map_or_else(|| "-".to_owned(), |z| probability(NegativeBinomial.attacker_success(limit.share, z)));
            [format!("{:.2}", limit.share), count(limit.paper), left, count(limit.exact)]
        });
        let headings = [">q", ">z, white paper", ">~P there, exact", ">z, exact"];
        format!("P < {}\n{}", self.below, table::list(headings, rows.collect(), ""))
    }
}

/// A share of everything, as a number or in percent.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|number| number / whole);
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share is a number from 0 to 1, such as 0.1, or percent, such as 10%".to_owned())
}

fn chance(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|chance| *chance > 0.0).ok_or_else(|| "a chance is more than 0 and at most 1".to_owned())
}

/// Numbers with commas between them; `…` or `...` goes on by the step between the two before it, up to the one after.
fn series(text: &str) -> Result<Series, String> {
    let wrong = || "write confirmations with commas between them, such as 0,1,2 or 0,5,…,50".to_owned();
    let mut list: Vec<u32> = Vec::new();
    let mut goes_on = None;
    for part in text.split(',').map(str::trim) {
        if matches!(part, "…" | "...") {
            let [.., one, other] = list.as_slice() else { return Err(wrong()) };
            let step = other.checked_sub(*one).filter(|step| *step > 0).ok_or_else(wrong)?;
            goes_on = Some((other.saturating_add(step), step));
            continue;
        }
        let number: u32 = part.parse().map_err(|_| wrong())?;
        if number > MOST_BELOW {
            return Err(format!("at most {MOST_BELOW} confirmations"));
        }
        if let Some((from, step)) = goes_on.take() {
            list.extend((from..number).step_by(step as usize));
        }
        list.push(number);
        if list.len() > MOST_LINES {
            return Err(format!("at most {MOST_LINES} lines"));
        }
    }
    if goes_on.is_some() { Err(wrong()) } else { Ok(Series(list)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the command, without races.
    fn printed(attacker: &[f64], z: Option<&str>, below: Option<f64>) -> String {
        printed_with(attacker, z, below, None)
    }

    fn printed_with(attacker: &[f64], z: Option<&str>, below: Option<f64>, amount: Option<(i64, i64)>) -> String {
        let (amount, budget) = (amount.map(|(amount, _)| Sat(amount)), amount.map(|(_, budget)| Sat(budget)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("printed");
        let output = Box::new(fs::File::create(&path).unwrap());
        let context = Context::with_output(super::super::Global::default(), output);
        let z = z.map(|text| series(text).unwrap());
        Risk { attacker: attacker.into(), z, below, amount, budget, races: 0, seed: 1, svg: None }
            .run(&context)
            .unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// The cells of the tables' lines, which begin with a number, above a plot.
    fn cells(text: &str) -> Vec<Vec<&str>> {
        let text = text.split('┤').next().unwrap();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|line| line.len() > 2 && line[0].parse::<f64>().is_ok()).collect()
    }

    // The white paper, section 11, as printed there.
    const TEN_PERCENT: [&str; 11] = [
        "1.0000000",
        "0.2045873",
        "0.0509779",
        "0.0131722",
        "0.0034552",
        "0.0009137",
        "0.0002428",
        "0.0000647",
        "0.0000173",
        "0.0000046",
        "0.0000012",
    ];
    const THIRTY_PERCENT: [&str; 11] = [
        "1.0000000",
        "0.1773523",
        "0.0416605",
        "0.0101008",
        "0.0024804",
        "0.0006132",
        "0.0001522",
        "0.0000379",
        "0.0000095",
        "0.0000024",
        "0.0000006",
    ];
    const BELOW_A_THOUSANDTH: [(&str, &str); 8] = [
        ("0.10", "5"),
        ("0.15", "8"),
        ("0.20", "11"),
        ("0.25", "15"),
        ("0.30", "24"),
        ("0.35", "41"),
        ("0.40", "89"),
        ("0.45", "340"),
    ];

    #[test]
    fn every_digit_of_the_white_papers_tables_is_printed() {
        for (share, z, step, expected) in [(0.1, None, 1, TEN_PERCENT), (0.3, Some("0,5,…,50"), 5, THIRTY_PERCENT)] {
            let text = printed(&[share], z, None);
            let rows = cells(&text);
            let got: Vec<_> = rows.iter().map(|row| (row[0].to_owned(), row[1])).collect();
            let wanted: Vec<_> = expected.iter().enumerate().map(|(at, p)| ((at * step).to_string(), *p)).collect();
            assert_eq!(got, wanted, "{text}");
        }
        let text = printed(&[], None, Some(0.001));
        let got: Vec<_> = cells(&text).iter().map(|row| (row[0], row[1])).collect();
        assert_eq!(got, BELOW_A_THOUSANDTH, "{text}");
    }

    #[test]
    fn without_options_the_papers_three_tables_stand_one_below_the_other() {
        let text = printed(&[], None, None);
        let got: Vec<_> = cells(&text).iter().map(|row| row[1].to_owned()).collect();
        let thresholds = BELOW_A_THOUSANDTH.iter().map(|(_, z)| z);
        let wanted: Vec<_> =
            TEN_PERCENT.iter().chain(&THIRTY_PERCENT).chain(thresholds).map(ToString::to_string).collect();
        assert_eq!(got, wanted, "{text}");
    }

    /// Reckoned with fractions of whole numbers; the fewest confirmations are those that C. Grunspan and R. Pérez-Marco give
    /// in "Double spend races" (2017).
    #[test]
    fn exact_numbers_stand_beside_the_papers() {
        let text = printed(&[0.1], None, None);
        let exact: Vec<_> = cells(&text).iter().map(|row| row[2].to_owned()).collect();
        let wanted = [
            "1.0000000",
            "0.2000000",
            "0.0560000",
            "0.0171200",
            "0.0054560",
            "0.0017818",
            "0.0005914",
            "0.0001986",
            "0.0000672",
            "0.0000229",
            "0.0000079",
        ];
        assert_eq!(exact, wanted);
        let text = printed(&[], None, Some(0.001));
        let exact: Vec<_> = cells(&text).iter().map(|row| row[3].to_owned()).collect();
        assert_eq!(exact, ["6", "9", "13", "20", "32", "58", "133", "539"]);
    }

    #[test]
    fn a_budget_for_an_amount_is_a_chance() {
        let by_budget = printed_with(&[0.1, 0.3], None, None, Some((1_000_000, 1_000)));
        assert_eq!(by_budget, printed(&[0.1, 0.3], None, Some(0.001)));
    }

    #[test]
    fn shares_and_series_are_taken_as_people_write_them() {
        assert_eq!([share("0.1"), share("10%"), share(" 45 %")], [Ok(0.1), Ok(0.1), Ok(0.45)]);
        for text in ["", "-0.1", "1.1", "nan", "101%", "inf"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(chance("0").is_err());
        let read = |text| series(text).map(|series| series.0);
        assert_eq!(read("0,5,…,20"), Ok(vec![0, 5, 10, 15, 20]));
        assert_eq!(read("0, 1, ..., 3, 10"), Ok(vec![0, 1, 2, 3, 10]));
        assert_eq!(read("0,5,...,12"), Ok(vec![0, 5, 10, 12]));
        for text in ["", "x", "0,…,5", "5,0,…,9", "0,1,…", "1,1,…,3", "-1", "0,1,…,100000", "4294967295"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
