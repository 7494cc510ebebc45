//! Text tables: columns are as wide as their widest cell, numbers are right-aligned. Nothing is
//! wrapped, whether the output is a terminal or not: a row is a line.

pub(crate) use comfy_table::CellAlignment as Align;
use comfy_table::ContentArrangement;
use comfy_table::presets::NOTHING;

use crate::output::clean;

/// Rows below a heading.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.iter().map(|(name, _)| *name));
        for (column, (_, align)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2)).set_cell_alignment(*align);
        }
        Self(table)
    }

    /// Adds a row; it has a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|cell| clean(&cell)).collect();
        debug_assert_eq!(row.len(), self.0.column_count());
        self.0.add_row(row);
    }

    /// Returns the heading and the rows, without newlines.
    pub(crate) fn lines(&self) -> (String, Vec<String>) {
        let mut lines = self.0.lines().map(|line| line.trim_end().to_owned());
        let heading = lines.next().unwrap_or_default();
        (heading, lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["zähler-1".to_owned(), "7".to_owned()]);
        table.row(["b\n".to_owned(), "12345".to_owned()]);
        let (heading, rows) = table.lines();
        assert_eq!(heading, "NAME       SIZE");
        assert_eq!(rows, ["zähler-1      7", "b\\n       12345"]);
    }

    #[test]
    fn wide_and_combining_characters_take_their_cells() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["計数器".to_owned(), "7".to_owned()]);
        table.row(["za\u{308}hler".to_owned(), "12".to_owned()]);
        let (heading, rows) = table.lines();
        assert_eq!(heading, "NAME    SIZE");
        assert_eq!(rows, ["計数器     7", "za\u{308}hler    12"]);
    }

    #[test]
    fn control_and_direction_characters_are_escaped_and_long_cells_are_one_line() {
        let mut table = Table::new(&[("NAME", Align::Left), ("WHY", Align::Left)]);
        let long = "word ".repeat(100);
        table.row(["\u{9b}31m\u{202e}x\t".to_owned(), long.clone()]);
        let (_, rows) = table.lines();
        assert_eq!(rows.len(), 1);
        assert!(!rows[0].contains(['\u{9b}', '\u{202e}', '\t']), "{rows:?}");
        assert!(rows[0].ends_with(long.trim_end()), "{rows:?}");
    }

    #[test]
    fn an_empty_cell_keeps_its_column_and_an_empty_table_its_heading() {
        let mut table = Table::new(&[("NAME", Align::Left), ("X", Align::Right)]);
        assert_eq!(table.lines(), ("NAME  X".to_owned(), Vec::new()));
        table.row([String::new(), "1".to_owned()]);
        assert_eq!(table.lines().1, ["      1"]);
    }
}
