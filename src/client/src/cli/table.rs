//! Tables on a terminal. What a cell holds may come from anybody, so it is made fit to be shown here, for all commands.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use leyden_common::words::on_one_line;

/// Blanks between columns, and no lines.
const BARE: TableStyle = TableStyle::new();

/// One line, below the headings.
const RULED: TableStyle = BARE.header_separator(LineStyle::none().fill('─').junction('─'));

/// One thing: a name and a value a line.
pub(super) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(BARE);
    for (name, value) in rows {
        table.add_row([name.to_owned(), on_one_line(&value).into_owned()]);
    }
    trimmed(&table)
}

/// Many things of a kind, with `none` in place of an empty table. Columns whose heading begins with `>` are set to
/// the right, as numbers are.
pub(super) fn list<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>, none: &str) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let mut table = Table::new();
    table.load_style(RULED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.map(|heading| heading.trim_start_matches('>')));
    for row in rows {
        table.add_row(row.map(|cell| on_one_line(&cell).into_owned()));
    }
    for (at, heading) in headings.iter().enumerate() {
        if heading.starts_with('>')
            && let Some(column) = table.column_mut(at)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Without the blanks that pad both ends of a line, which are a nuisance to copy.
fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
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
}
