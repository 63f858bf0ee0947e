//! The layouts: every pane has one place at every size, and what is wrong in a layout is named with its place.

use proptest::prelude::*;

use super::*;

fn fault(text: &str) -> String {
    Layout::parse(text, "mine.toml").unwrap_err().to_string()
}

fn variant(body: &str) -> String {
    format!("[[variant]]\nmin = [80, 22]\n{body}")
}

fn named(name: &str) -> Layout {
    Layout::builtin().into_iter().find(|layout| layout.name == name).unwrap()
}

/// Inside, disjoint, and every pane exactly once.
fn check(placement: &Placement, area: Rect) -> Result<(), TestCaseError> {
    for (at, (pane, rect)) in placement.panes.iter().enumerate() {
        prop_assert!(!rect.is_empty() && area.intersection(*rect) == *rect, "{pane:?} {rect:?} in {area:?}");
        for (other, second) in &placement.panes[at + 1..] {
            prop_assert!(rect.intersection(*second).is_empty(), "{pane:?} {rect:?} and {other:?} {second:?}");
        }
    }
    let mut all: Vec<Pane> =
        placement.panes.iter().map(|(pane, _)| *pane).chain(placement.hidden.iter().copied()).collect();
    all.sort();
    prop_assert_eq!(all, Pane::ALL.to_vec());
    prop_assert_eq!(placement.panes.is_empty(), area.is_empty());
    Ok(())
}

fn covered(placement: &Placement) -> u32 {
    placement.panes.iter().map(|(_, rect)| rect.area()).sum()
}

#[test]
fn at_every_size_every_pane_has_one_place_or_is_a_page_and_nothing_is_left_empty() {
    for layout in Layout::builtin() {
        for width in 1..=250 {
            for height in 1..=80 {
                let area = Rect::new(0, 1, width, height);
                let placement = layout.place(area);
                check(&placement, area).unwrap();
                assert_eq!(covered(&placement), area.area(), "{} at {width}x{height}", layout.name);
            }
        }
    }
}

#[test]
fn a_larger_screen_shows_more() {
    for layout in Layout::builtin() {
        let seen = [(20, 5), (80, 22), (120, 38), (200, 58)]
            .map(|(width, height)| layout.place(Rect::new(0, 0, width, height)).panes.len());
        assert_eq!(seen[0], 1, "{}", layout.name);
        assert!(seen.is_sorted() && seen[1] >= 2 && seen[3] > seen[1], "{} {seen:?}", layout.name);
    }
    // What a newcomer needs for a migration fits an ordinary terminal.
    let small = named("operator").place(Rect::new(0, 0, 80, 22));
    for pane in [Pane::Fleet, Pane::Targets, Pane::Plan, Pane::Timeline] {
        assert!(small.of(pane).is_some(), "{pane:?}");
    }
    // What is for an audience is no operator's.
    let theatre = [Pane::Map, Pane::Stopped, Pane::Requests, Pane::RoundTrip, Pane::Runs];
    assert_eq!(named("operator").place(Rect::new(0, 0, 200, 58)).hidden, theatre);
}

#[test]
fn each_layout_makes_large_what_it_is_for() {
    let share = |layout: &str, panes: &[Pane]| {
        let area = Rect::new(0, 0, 120, 38);
        let placement = named(layout).place(area);
        panes.iter().filter_map(|&pane| placement.of(pane)).map(|rect| rect.area()).sum::<u32>() * 100
            / area.area()
    };
    assert!(share("explorer", &[Pane::Targets, Pane::Plan, Pane::Regions]) > 75);
    assert!(share("wall", &[Pane::Topology, Pane::Timeline]) > 70);
    assert!(share("operator", &[Pane::Topology]) < 25);
}

#[test]
fn the_largest_variant_that_fits_is_used() {
    let layout = Layout::parse(
        "[[variant]]\nmin = [10, 10]\npane = 'plan'\n[[variant]]\nmin = [40, 10]\ndirection = 'columns'\n\
         children = [{ size = 12, pane = 'fleet' }, { pane = 'logs' }]",
        "two.toml",
    )
    .unwrap();
    let seen = |width, height| {
        layout.place(Rect::new(0, 0, width, height)).panes.iter().map(|(pane, _)| *pane).collect::<Vec<_>>()
    };
    assert_eq!(seen(40, 10), [Pane::Fleet, Pane::Logs]);
    assert_eq!(seen(39, 50), [Pane::Plan]);
    assert_eq!(seen(9, 9), [Pane::Plan]);
    assert_eq!(layout.place(Rect::new(0, 0, 40, 10)).of(Pane::Fleet), Some(Rect::new(0, 0, 12, 10)));
}

#[test]
fn an_unknown_pane_and_one_with_two_places_are_named() {
    assert_eq!(
        fault(&variant("pane = 'topologie'")),
        "mine.toml:3:8: there is no pane `topologie`: did you mean `topology`?"
    );
    assert_eq!(
        fault(&variant("direction = 'rows'\nchildren = [\n  { pane = 'plan' },\n  { pane = 'plan' },\n]")),
        "mine.toml:6:12: the pane `plan` has two places (first at mine.toml:5:12): leave one of them out, or put another pane \
         there"
    );
}

#[test]
fn sizes_that_cannot_be_are_named() {
    let split = |sizes: [&str; 2]| {
        variant(&format!(
            "direction = 'columns'\nchildren = [\n{{ size = {}, pane = 'plan' }},\n{{ size = {}, pane = 'logs' }}]",
            sizes[0], sizes[1]
        ))
    };
    assert_eq!(
        fault(&split(["'60%'", "'50%'"])),
        "mine.toml:6:10: up to here the children have 110 % of their parent: let them have 100 % at most"
    );
    let narrow = fault(&split(["79", "'*'"]));
    assert!(
        narrow.starts_with("mine.toml:6:22: at 80x22, the least size of this variant, `logs` gets 1x22, and"),
        "{narrow}"
    );
    let wide = fault(&split(["70", "70"]));
    assert_eq!(
        wide,
        "mine.toml:5:21: at 80x22, the least size of this variant, the part of `plan` gets 40 columns of 70: raise `min`, or \
         change the sizes"
    );
    // Even where a variant is for no screen that there is.
    let huge = split(["'90%'", "'min 3'"]).replace("[80, 22]", "[65535, 65535]");
    let layout = Layout::parse(&huge, "mine.toml").unwrap();
    assert_eq!(layout.place(Rect::new(0, 0, 400, 200)).panes.len(), 1);
    for size in
        ["0", "-3", "70000", "'0%'", "'101%'", "'min'", "'min 0'", "'max 3'", "'12'", "''", "1.5", "true"]
    {
        let error = fault(&split([size, "'*'"]));
        assert!(error.starts_with("mine.toml:5:10: ") && error.contains("\"min 20\""), "{size}: {error}");
    }
}

#[test]
fn what_is_neither_a_pane_nor_a_split_is_named() {
    for body in [
        "",
        "direction = 'rows'",
        "direction = 'rows'\nchildren = []",
        "pane = 'plan'\ndirection = 'rows'\nchildren = [{ pane = 'logs' }]",
    ] {
        let error = fault(&variant(body));
        assert!(error.contains("neither a pane nor a split"), "{error}");
    }
    assert!(fault("").contains("at least one variant"));
    assert!(fault(&variant("direction = 'across'")).contains("known here: `rows`, `columns`"));
    assert!(fault(&variant("panes = 'plan'")).contains("did you mean `pane`?"));
    assert!(fault("[[variant]]\npane = 'plan'").contains("`min` is missing"));
    let twice = fault(&format!("{}\n{}", variant("pane = 'plan'"), variant("pane = 'logs'")));
    assert!(
        twice.starts_with("mine.toml:5:7: two variants begin at the same size (first at mine.toml:2:7)"),
        "{twice}"
    );
}

/// A tree of splits as a file would have it; its panes are numbered later.
#[derive(Debug, Clone)]
enum Tree {
    Leaf,
    Split(bool, Vec<(String, Tree)>),
}

impl Tree {
    fn write(&self, panes: &mut impl Iterator<Item = Pane>) -> Option<String> {
        Some(match self {
            Self::Leaf => format!("pane = '{}'", panes.next()?.id()),
            Self::Split(rows, children) => {
                let mut written = Vec::new();
                for (size, child) in children {
                    let child = child.write(panes)?.replace('\n', ", ");
                    written.push(format!("{{ size = {size}, {child} }}"));
                }
                let direction = if *rows { "rows" } else { "columns" };
                format!("direction = '{direction}'\nchildren = [{}]", written.join(", "))
            }
        })
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let size = prop_oneof![
        (3..12_u16).prop_map(|cells| cells.to_string()),
        (10..60_u16).prop_map(|percent| format!("'{percent}%'")),
        (1..12_u16).prop_map(|cells| format!("'min {cells}'")),
        Just("'*'".to_owned()),
    ];
    Just(Tree::Leaf).prop_recursive(3, 10, 4, move |inner| {
        (any::<bool>(), prop::collection::vec((size.clone(), inner), 1..4))
            .prop_map(|(rows, children)| Tree::Split(rows, children))
    })
}

proptest! {
    #[test]
    fn any_layout_that_is_accepted_holds_at_any_size(
        tree in tree(), x in 0..50_u16, y in 0..50_u16, width in 0..=400_u16, height in 0..=200_u16,
    ) {
        let Some(body) = tree.write(&mut Pane::ALL.into_iter()) else { return Ok(()) };
        let area = Rect::new(x, y, width, height);
        if let Ok(layout) = Layout::parse(&variant(&body), "any.toml") {
            check(&layout.place(area), area)?;
        }
    }

    #[test]
    fn any_text_is_a_layout_or_an_error(text in "(\\[\\[variant\\]\\]\nmin = \\[8, 8\\]\n)?[ -~\n]{0,60}") {
        let _ = Layout::parse(&text, "any.toml").map_err(|error| error.to_string());
    }
}
