//! Tables on a terminal. What a cell holds may come from anybody, so it is made fit to be shown here, for all commands.
//!
//! ```text
//!   everything fits ──► one line a row
//!   else            ──► texts wrap between words; then columns marked ~ are left out, the leftmost first
//!   still too wide  ──► a block of lines a row, so that an id stands on one line and can be copied
//! ```
//!
//! A number and an id are never cut. What goes to a file or a pipe has no width, and is never wrapped.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

use leyden_common::words::on_one_line;

/// Blanks between columns, and no lines.
const BARE: TableStyle = TableStyle::new();

/// One line, below the headings.
const RULED: TableStyle = BARE.header_separator(LineStyle::none().fill('─').junction('─'));

/// Blanks between two columns: one before each cell, and one that parts them.
const GAP: usize = 2;

/// Before each cell of a list.
const PADDING: u16 = 1;

/// One thing: a name and a value a line.
pub(super) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(BARE);
    for (name, value) in rows {
        table.add_row([name.to_owned(), on_one_line(&value).into_owned()]);
    }
    trimmed(&table)
}

/// Many things of a kind, with `none` in place of an empty table. A heading may begin with marks: `>` sets its column to
/// the right, as numbers are, and `~` lets it be left out of a terminal that has no room for it.
pub(super) fn list<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>, none: &str) -> String {
    within(Table::new().width().map(usize::from), headings, rows, none)
}

/// The same in lines of so many characters; `None`: as long as they are.
pub(super) fn within<const N: usize>(
    width: Option<usize>,
    headings: [&str; N],
    rows: Vec<[String; N]>,
    none: &str,
) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| Vec::from(row.map(|cell| on_one_line(&cell).into_owned()))).collect();
    let mut columns: Vec<Column> =
        headings.iter().enumerate().map(|(at, heading)| Column::of(at, heading, &rows)).collect();
    let Some(width) = width else { return drawn(&columns, &rows, None) };
    if total(&columns, |column| column.natural) <= width {
        return drawn(&columns, &rows, None);
    }
    let mut left_out = Vec::new();
    while total(&columns, |column| column.least) > width {
        let Some(at) = columns.iter().position(|column| column.is_optional) else { return blocks(&headings, &rows) };
        left_out.push(columns.remove(at).heading);
    }
    let table = drawn(&columns, &rows, Some(width));
    match left_out.is_empty() {
        true => table,
        false => format!("{table}\n(a wider terminal also shows: {})", left_out.join(", ")),
    }
}

/// A column, and how much room it takes.
struct Column<'a> {
    /// Which cell of a row it shows.
    at: usize,
    heading: &'a str,
    is_number: bool,
    is_optional: bool,
    /// Without wrapping anything.
    natural: usize,
    /// Without cutting a number, an id or a word.
    least: usize,
}

impl<'a> Column<'a> {
    fn of(at: usize, heading: &'a str, rows: &[Vec<String>]) -> Self {
        let name = heading.trim_start_matches(['>', '~']);
        let marks = heading.strip_suffix(name).unwrap_or_default();
        let is_number = marks.contains('>');
        let longest_word = |text: &str| text.split(' ').map(length).max().unwrap_or_default();
        let cells = || rows.iter().filter_map(|row| row.get(at));
        let whole = cells().map(|cell| length(cell)).max().unwrap_or_default();
        let words = cells().map(|cell| longest_word(cell)).max().unwrap_or_default();
        Self {
            at,
            heading: name,
            is_number,
            is_optional: marks.contains('~'),
            natural: whole.max(length(name)),
            least: if is_number { whole } else { words }.max(longest_word(name)),
        }
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn total(columns: &[Column<'_>], of: impl Fn(&Column<'_>) -> usize) -> usize {
    columns.iter().map(|column| of(column) + GAP).sum::<usize>().saturating_sub(GAP)
}

fn drawn(columns: &[Column<'_>], rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut table = Table::new();
    table.load_style(RULED).force_no_tty();
    table.set_header(columns.iter().map(|column| column.heading));
    for row in rows {
        table.add_row(columns.iter().map(|column| row.get(column.at).cloned().unwrap_or_default()));
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(cells(width).saturating_add(PADDING));
    }
    for (place, column) in columns.iter().enumerate() {
        let Some(drawn) = table.column_mut(place) else { continue };
        drawn.set_padding((PADDING, 0));
        if column.is_number {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
        if width.is_some() {
            let least = Width::Fixed(cells(column.least).saturating_add(PADDING));
            drawn.set_constraint(match column.is_number {
                true => ColumnConstraint::Absolute(least),
                false => ColumnConstraint::LowerBoundary(least),
            });
        }
    }
    trimmed(&table)
}

fn cells(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// A block of lines for each row.
fn blocks(headings: &[&str], rows: &[Vec<String>]) -> String {
    let of = |row: &Vec<String>| {
        let names = headings.iter().map(|heading| heading.trim_start_matches(['>', '~']));
        facts(names.zip(row.iter().cloned()))
    };
    rows.iter().map(of).collect::<Vec<_>>().join("\n\n")
}

/// Without what pads both ends of a line, which is a nuisance to copy.
fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(|line| line.strip_prefix([' ', '─']).unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(list(["a", ">b"], Vec::new(), "There is nothing."), "There is nothing.");
    }

    #[test]
    fn a_cell_cannot_write_over_the_others() {
        let memo = "tea\u{1b}[1A\r1 sat\nforged".to_owned();
        for text in [facts([("memo", memo.clone())]), list(["memo"], vec![[memo]], "")] {
            assert!(!text.contains(['\u{1b}', '\r']) && text.contains("tea␛[1A␍1 sat␊forged"), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_set_to_the_right() {
        let rows = vec![["x".to_owned(), "1".to_owned()], ["y".to_owned(), "1,000".to_owned()]];
        let text = list(["name", ">amount"], rows, "");
        assert!(text.lines().any(|line| line.ends_with("     1")), "{text}");
        assert!(text.contains("amount") && !text.contains(">amount"), "{text}");
    }

    const HEADINGS: [&str; 4] = ["channel", "~node", ">capacity", ">~in flight"];

    fn row() -> [String; 4] {
        ["4a5e1e4baab8…:0", "02c6047f9441…", "10,000,000", "1,250,000"].map(str::to_owned)
    }

    #[test]
    fn a_number_is_never_cut_and_a_heading_breaks_between_words_alone() {
        let wide = within(Some(80), HEADINGS, vec![row()], "");
        assert_eq!(wide.lines().count(), 3, "{wide}");
        // Too narrow for everything in one line, and for the node.
        let narrow = within(Some(40), HEADINGS, vec![row()], "");
        assert!(narrow.lines().all(|line| line.chars().count() <= 40 || line.starts_with('(')), "{narrow}");
        let cells = narrow.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(cells, ["4a5e1e4baab8…:0", "10,000,000", "1,250,000"], "{narrow}");
        assert!(narrow.contains("capacity") && narrow.ends_with("shows: node)"), "{narrow}");
    }

    #[test]
    fn an_id_that_does_not_fit_stands_on_a_line_of_its_own() {
        let txid = "ab".repeat(32);
        let headings = ["channel", ">got", "closing transaction"];
        let rows = vec![["4a5e1e4baab8…:0".to_owned(), "5".to_owned(), txid.clone()]; 2];
        let text = within(Some(80), headings, rows.clone(), "");
        let with_id: Vec<&str> = text.lines().filter(|line| line.ends_with(&txid)).collect();
        assert!(with_id.len() == 2 && with_id[0].starts_with("closing transaction"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        // A file has no width.
        let file = within(None, headings, rows, "");
        assert_eq!(file.lines().filter(|line| line.ends_with(&txid)).count(), 2, "{file}");
        assert_eq!(file.lines().count(), 4, "{file}");
    }

    #[test]
    fn a_long_text_wraps_between_words() {
        let memo = "a cup of tea and a piece of cake for the two at the table near the window, with milk";
        let text = within(Some(50), ["memo", ">sat"], vec![[memo.to_owned(), "1,000".to_owned()]], "");
        let words = text.lines().skip(2).collect::<Vec<_>>().join(" ");
        for word in memo.split(' ').chain(["1,000"]) {
            assert!(words.split_whitespace().any(|one| one == word), "{word} in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
    }
}
