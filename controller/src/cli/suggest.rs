//! "Did you mean …": the nearest of some names.

/// The name nearest to what was typed, if one is near enough to have been meant.
pub(super) fn nearest<'a>(
    typed: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    // A third of the letters may be wrong, and always one.
    let edits_max = (typed.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (edits(&typed, &name.to_lowercase()), name))
        .filter(|(edits, name)| {
            *edits <= edits_max || (typed.len() >= 3 && name.starts_with(&typed))
        })
        .min()
        .map(|(_, name)| name)
}

/// Insertions, removals, replacements and swaps of neighbours that make one text the other
/// (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["shop/production", "shop/staging", "blog/production"];
        assert_eq!(nearest("shop/prodction", names), Some("shop/production"));
        assert_eq!(nearest("shpo/staging", names), Some("shop/staging"));
        assert_eq!(nearest("Blog/Production", names), Some("blog/production"));
        assert_eq!(nearest("shop/stag", names), Some("shop/staging"));
        assert_eq!(nearest("intranet", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(edits("wbe1", "web1"), 1);
        assert_eq!(edits("web1", "web1"), 0);
        assert_eq!(edits("", "abc"), 3);
    }
}
