//! The nearest right name for one that was mistyped.

/// The answer whose name is most like `wanted`, if any is alike enough to be what was meant
///
/// `names` pairs what is compared with what is suggested.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    names
        .map(|(name, answer)| (strsim::jaro_winkler(wanted, &name.to_ascii_lowercase()), answer))
        .filter(|(likeness, _)| *likeness > LIKE_ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, answer)| answer)
}

/// Below this a suggestion puzzles more than it helps; chosen by trying the table's own names with typing errors
const LIKE_ENOUGH: f64 = 0.78;
