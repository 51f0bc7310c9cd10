//! Lists: tables for people, with columns as wide as what is in them, and JSON for programs.

use anyhow::Result;
use serde_json::{Value, json};

/// Rows under their heads, two spaces between columns.
pub(super) fn text(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    [&heads].into_iter().chain(rows).map(|cells| line(cells)).collect()
}

/// A list as the Admin API tells it, for programs, or as a table.
pub(super) fn list(json: bool, items: &[Value], heads: &[&str], row: impl FnMut(&Value) -> Vec<String>) -> Result<()> {
    if json {
        return super::print(&format!("{}\n", json!({ "items": items })));
    }
    super::print(&text(heads, &items.iter().map(row).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["é".to_owned(), "long value".to_owned()], vec!["long name".to_owned(), "b".to_owned()]];
        assert_eq!(text(&["NAME", "VALUE"], &rows), "NAME       VALUE\né          long value\nlong name  b\n");
        assert_eq!(text(&["NAME"], &[]), "NAME\n");
    }
}
