//! Tables: upper-case headers, columns as wide as they need to be, numbers to the right.

use super::{Style, Text};

/// A table that is filled row by row.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<(&'static str, bool)>,
    rows: Vec<Vec<Text>>,
}

impl Table {
    /// A table with these headers; one that begins with `>` is of a column of numbers.
    pub(crate) fn new(headers: &[&'static str]) -> Self {
        let headers = headers
            .iter()
            .map(|header| (header.trim_start_matches('>'), header.starts_with('>')))
            .collect();
        Self {
            headers,
            rows: Vec::new(),
        }
    }

    /// Adds a row with one cell for each header.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Text>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines.
    pub(crate) fn render(&self) -> String {
        let head: Vec<Text> = self
            .headers
            .iter()
            .map(|(name, _)| Text::styled(Style::Strong, *name))
            .collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.chain(head.get(column)).map(Text::width).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(width - cell.width());
                let numbers = self.headers[column].1;
                let last = column + 1 == row.len();
                if column > 0 {
                    line.push_str("  ");
                }
                match (numbers, last) {
                    (true, _) => line.extend([space, cell.ansi()]),
                    (false, true) => line.push_str(&cell.ansi()),
                    (false, false) => line.extend([cell.ansi(), space]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">RPS", "STATE"]);
        assert!(table.is_empty());
        table.row(["ml/fraud".into(), "39.8".into(), "ok".into()]);
        table.row(["größe".into(), "1203".into(), "".into()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(
            plain,
            "NAME       RPS  STATE\nml/fraud  39.8  ok\ngröße     1203\n"
        );
    }
}
