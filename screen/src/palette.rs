//! Searching the actions.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use crate::action::{ACTIONS, Action};

/// The actions that a text may mean, the likeliest first; all of them for none.
#[must_use]
pub fn search(text: &str) -> Vec<Action> {
    let shown = ACTIONS.iter().filter(|spec| spec.action != Action::Palette);
    if text.trim().is_empty() {
        return shown.map(|spec| spec.action).collect();
    }
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut score = |text: &str| pattern.score(Utf32Str::new(text, &mut buffer), &mut matcher);
    let mut found: Vec<(u32, usize, Action)> = shown
        .enumerate()
        .filter_map(|(place, spec)| {
            let title = score(spec.title).map(|score| score + 40);
            // A sentence contains nearly any letters in some order: there the text must stand as it is.
            let told = spec.description.contains(&text.trim().to_lowercase()).then_some(1);
            let best = title.max(score(spec.id)).max(told)?;
            Some((best, place, spec.action))
        })
        .collect();
    found.sort_by_key(|(score, place, _)| (std::cmp::Reverse(*score), *place));
    found.into_iter().map(|(_, _, action)| action).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_means_comes_first() {
        assert_eq!(search("migr").first(), Some(&Action::Migrate));
        assert_eq!(search("lay").first(), Some(&Action::NextLayout));
        assert_eq!(search("xyzzy"), []);
        assert_eq!(search("").len(), ACTIONS.len() - 1);
    }
}
