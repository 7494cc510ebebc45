//! Text tables: columns are as wide as their widest cell, numbers are right-aligned.

use crate::output::clean;

/// The alignment of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|cell| clean(&cell)).collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Returns the heading and the rows, without newlines.
    pub(crate) fn lines(&self) -> (String, Vec<String>) {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
                    .max(width(name))
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for ((cell, &wide), (_, align)) in cells.zip(&widths).zip(&self.columns) {
                let padding = " ".repeat(wide - width(cell));
                match align {
                    Align::Left => line.extend([cell, &padding, "  "]),
                    Align::Right => line.extend([&padding, cell, "  "]),
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        let heading = line(&mut self.columns.iter().map(|(name, _)| *name));
        let rows = self
            .rows
            .iter()
            .map(|row| line(&mut row.iter().map(String::as_str)))
            .collect();
        (heading, rows)
    }
}

/// Returns the width in terminal cells: one per character, which is right for most scripts.
fn width(text: &str) -> usize {
    text.chars().count()
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
    fn an_empty_table_has_its_heading() {
        let table = Table::new(&[("NAME", Align::Left), ("X", Align::Right)]);
        assert_eq!(table.lines(), ("NAME  X".to_owned(), Vec::new()));
    }
}
