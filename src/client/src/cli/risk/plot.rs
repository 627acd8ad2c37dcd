//! The attacker's chance over the confirmations, its logarithm upwards: for a terminal, and as SVG.

use std::fmt::Write as _;

/// Below this chance nothing is drawn.
const LEAST_EXPONENT: i32 = -12;

/// One attacker's chances.
pub(super) struct Curve {
    pub(super) share: f64,
    pub(super) points: Vec<Point>,
}

/// Chances after so many confirmations.
pub(super) struct Point {
    pub(super) confirmations: u32,
    pub(super) paper: f64,
    pub(super) exact: f64,
    /// What the races gave, with its standard error.
    pub(super) races: Option<(f64, f64)>,
}

/// The exponent of the lowest line, and the most confirmations.
fn extent(curves: &[Curve]) -> (i32, u32) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let least = points().flat_map(|point| [point.paper, point.exact]).filter(|chance| *chance > 0.0);
    let exponent = least.fold(1.0, f64::min).log10().floor() as i32;
    let most = points().map(|point| point.confirmations).max().unwrap_or_default();
    (exponent.clamp(LEAST_EXPONENT, -1), most.max(1))
}

/// `1`, `0.1`, … and from a thousandth on `1e-3`.
fn label(exponent: i32) -> String {
    match exponent {
        -2..=0 => format!("{:.*}", exponent.unsigned_abs() as usize, 10_f64.powi(exponent)),
        _ => format!("1e{exponent}"),
    }
}

const COLUMNS: usize = 60;
/// Lines of the terminal, at least two a power of ten where that fits.
const MOST_LINES: i32 = 16;

/// Drawn with letters: `o` the paper's, `x` the exact, `*` both.
pub(super) fn in_letters(curve: &Curve) -> String {
    let (exponent, most) = extent(std::slice::from_ref(curve));
    let per_decade = (MOST_LINES / -exponent).clamp(1, 4);
    let last = (-exponent * per_decade) as usize;
    let mut grid = vec![[' '; COLUMNS + 1]; last + 1];
    let column = |confirmations: u32| (confirmations as usize * COLUMNS + most as usize / 2) / most as usize;
    for point in &curve.points {
        for (chance, letter) in [(point.paper, 'o'), (point.exact, 'x')] {
            let line = (-chance.log10() * f64::from(per_decade)).round();
            let cell = (chance > 0.0).then(|| grid.get_mut(line as usize)?.get_mut(column(point.confirmations)));
            if let Some(cell) = cell.flatten() {
                *cell = if *cell == 'o' && letter == 'x' { '*' } else { letter };
            }
        }
    }
    let mut text = String::new();
    for (at, line) in grid.iter().enumerate() {
        let decade = at as i32 % per_decade == 0;
        let name = if decade { label(-(at as i32 / per_decade)) } else { String::new() };
        let edge = if decade { '┤' } else { '│' };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:>6} {edge}{}", line.iter().collect::<String>().trim_end());
    }
    let _ = writeln!(text, "{:>6} └{}", "", "─".repeat(COLUMNS + 1));
    let middle = most / 2;
    let gap = column(middle).saturating_sub(1);
    let right = (COLUMNS + 1).saturating_sub(gap + 1 + middle.to_string().len());
    let _ = writeln!(text, "{:>6}  0{:gap$}{middle}{most:>right$}", "", "");
    let _ = write!(text, "{:>6}  confirmations z; o white paper, x exact, * both", "");
    text
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// A colour for each attacker; with more of them they come again.
const COLOURS: [&str; 4] = ["#1f5fa8", "#b5402a", "#2e7d4f", "#7a4d9e"];

/// A picture that stands alone.
pub(super) fn in_svg(curves: &[Curve]) -> String {
    let (exponent, most) = extent(curves);
    let x = |confirmations: f64| LEFT + confirmations / f64::from(most) * (WIDTH - LEFT - RIGHT);
    let y = |chance: f64| TOP + chance.log10() / f64::from(exponent) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let mut put = |line: String| {
        let _ = writeln!(svg, "{line}");
    };
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    put("<title>Chance of a double spend</title>".to_owned());
    put(format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
    put(format!(
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Chance that an attacker undoes a payment after z confirmations</text>"
    ));
    put(format!(
        "<text x=\"{LEFT}\" y=\"40\" fill=\"#555\">solid: exact, dashed: white paper's approximation, bars: simulated races \
         with one standard error</text>"
    ));
    for power in exponent..=0 {
        let level = y(10_f64.powi(power));
        put(format!("<path d=\"M{LEFT} {level:.1}H{right}\" stroke=\"#ddd\"/>"));
        let (at, below) = (LEFT - 8.0, level + 4.0);
        put(format!("<text x=\"{at}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>", label(power)));
    }
    for tick in (0..=most).step_by(tick_interval(most)) {
        let at = x(f64::from(tick));
        put(format!("<path d=\"M{at:.1} {bottom}v5\" stroke=\"black\"/>"));
        put(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", bottom + 19.0));
    }
    put(format!("<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>"));
    let centre = (LEFT + right) / 2.0;
    put(format!("<text x=\"{centre}\" y=\"{}\" text-anchor=\"middle\">confirmations z</text>", HEIGHT - 14.0));
    let visible = |chance: f64| chance >= 10_f64.powi(exponent);
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let path = |of: fn(&Point) -> f64| {
            let seen = curve.points.iter().filter(|point| visible(of(point)));
            let corners = seen.map(|point| format!("{:.1},{:.1}", x(f64::from(point.confirmations)), y(of(point))));
            corners.collect::<Vec<_>>().join(" ")
        };
        let line = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"");
        put(format!("<polyline points=\"{}\" {line}/>", path(|point| point.exact)));
        put(format!("<polyline points=\"{}\" {line} stroke-dasharray=\"5 4\"/>", path(|point| point.paper)));
        for point in &curve.points {
            let Some((success, error)) = point.races.filter(|(success, error)| visible(success - error)) else {
                continue;
            };
            let (at, up, down) = (x(f64::from(point.confirmations)), y(success + error), y(success - error));
            put(format!(
                "<path d=\"M{at:.1} {up:.1}V{down:.1}\" stroke=\"{colour}\" stroke-width=\"4\" opacity=\"0.5\"/>"
            ));
            put(format!("<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"{colour}\"/>", y(success)));
        }
    }
    for (place, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let level = TOP + 18.0 + 18.0 * place as f64;
        put(format!("<path d=\"M{} {level}h24\" stroke=\"{colour}\" stroke-width=\"1.8\"/>", right - 110.0));
        put(format!("<text x=\"{}\" y=\"{}\">q = {}</text>", right - 78.0, level + 4.0, curve.share));
    }
    put("</svg>".to_owned());
    svg
}

/// 1, 2 or 5 times a power of ten, for ten ticks or fewer.
fn tick_interval(most: u32) -> usize {
    let mut power = 1_usize;
    loop {
        for interval in [power, 2 * power, 5 * power] {
            if most as usize / interval <= 10 {
                return interval;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        let point =
            |(confirmations, paper, exact)| Point { confirmations, paper, exact, races: Some((exact, exact / 10.0)) };
        Curve { share: 0.1, points: [(0, 1.0, 1.0), (5, 0.000_9, 0.001_8), (10, 1.2e-6, 7.9e-6)].map(point).into() }
    }

    #[test]
    fn letters_stand_at_their_chances() {
        let text = in_letters(&curve());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("1 ┤*"), "{text}");
        let height_of = |letter: char| lines.iter().position(|line| line.contains(letter) && line.contains(['┤', '│']));
        assert!(height_of('x') < height_of('o'), "the exact chance is larger, so it stands higher\n{text}");
        assert!(lines.iter().all(|line| line.chars().count() < 80), "{text}");
        assert!(text.contains("  1e-6 ┤") && !text.contains("1e-7"), "{text}");
    }

    #[test]
    fn chances_of_none_and_of_next_to_none_are_not_drawn() {
        let point = |confirmations, chance| Point { confirmations, paper: chance, exact: chance, races: None };
        let curve = Curve { share: 0.0, points: vec![point(0, 1.0), point(1, 0.0), point(2, 1e-300)] };
        let text = in_letters(&curve);
        assert_eq!(text.lines().filter(|line| line.contains(['┤', '│']) && line.contains('*')).count(), 1, "{text}");
        assert!(!in_svg(&[curve]).contains("NaN") && !text.contains("NaN"));
    }

    #[test]
    fn svg_has_both_curves_of_each_attacker_and_its_races() {
        let svg = in_svg(&[curve(), curve()]);
        assert_eq!(svg.matches("<polyline").count(), 4, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 6, "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!([1, 10, 11, 50, 340, 1_000].map(tick_interval), [1, 1, 2, 5, 50, 100]);
    }
}
