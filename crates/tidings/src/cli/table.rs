//! Tables for people: columns as wide as their widest cell, two spaces in between.

/// Lays out rows below a head; cells of columns whose title begins with a space stand to the right
pub(crate) fn layout(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([title.trim().chars().count()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), title) in cells.zip(&widths).zip(head) {
            let gap = width.saturating_sub(cell.chars().count());
            match title.starts_with(' ') {
                true => line.push_str(&format!("{}{cell}  ", " ".repeat(gap))),
                false => line.push_str(&format!("{cell}{}  ", " ".repeat(gap))),
            }
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().map(|title| title.trim()))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["écho".to_owned(), "7".to_owned(), "x".to_owned()],
            vec!["a".to_owned(), "12345".to_owned(), String::new()],
        ];
        assert_eq!(
            layout(&["NAME", " WAITING", "STATE"], &rows),
            "NAME  WAITING  STATE\nécho        7  x\na       12345"
        );
    }
}
