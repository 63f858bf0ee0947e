//! Which modules of a crate name which, by the paths in their files, and the circles among those that lie side by side.
//!
//! Paths that begin with `crate`, `self` or `super` count, in `use` and elsewhere. A module and those below it may know each other. What
//! is only there for tests or for the documentation does not count.

use std::collections::{BTreeMap, BTreeSet};

/// A module as the names on the way to it from the crate's root.
pub(super) type Module = Vec<String>;

/// Modules that lie side by side: for each the others that it names, and one of the paths by which it does.
type Siblings = BTreeMap<String, BTreeMap<String, String>>;

/// Modules that lie side by side and know each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// What they all lie in.
    pub(super) within: Module,
    /// Which name which, and where.
    pub(super) edges: Vec<Edge>,
}

/// A module that names another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// The one.
    pub(super) from: String,
    /// The other.
    pub(super) to: String,
    /// In which module by which path.
    pub(super) place: String,
}

/// The module that a file below a crate's `src` is.
pub(super) fn module_of(file: &str) -> Module {
    let mut names: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        names.pop();
    }
    names
}

/// The circles among the modules of a crate, given the text of each.
pub(super) fn circles(sources: &[(Module, String)]) -> Vec<Circle> {
    let modules: BTreeSet<&[String]> = sources.iter().map(|(module, _)| module.as_slice()).collect();
    let mut all: BTreeMap<Module, Siblings> = BTreeMap::new();
    for (module, text) in sources {
        for path in paths(&tokens(text), module) {
            let Some(named) = (1..=path.len()).rev().map(|n| &path[..n]).find(|part| modules.contains(part))
            else {
                continue;
            };
            let shared = module.iter().zip(named).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(shared), named.get(shared)) {
                let place = format!("{} names {}", module.join("::"), path.join("::"));
                let siblings = all.entry(module[..shared].to_vec()).or_default();
                siblings.entry(from.clone()).or_default().entry(to.clone()).or_insert(place);
            }
        }
    }
    all.into_iter().flat_map(|(within, siblings)| circles_among(&within, &siblings)).collect()
}

/// The circles among modules that lie side by side.
fn circles_among(within: &[String], siblings: &Siblings) -> Vec<Circle> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        siblings.keys().map(|module| (module, reached_from(module, siblings))).collect();
    let know_each_other = |one: &String, other: &String| {
        let knows = |one, other| reached.get(one).is_some_and(|all| all.contains(other));
        knows(one, other) && knows(other, one)
    };
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for module in siblings.keys() {
        let circle: BTreeSet<&String> =
            siblings.keys().filter(|other| know_each_other(module, other)).collect();
        if !done.insert(module) || circle.is_empty() {
            continue;
        }
        done.extend(&circle);
        let edges = circle.iter().flat_map(|&from| {
            let named = siblings[from].iter().filter(|(to, _)| circle.contains(to));
            named.map(|(to, place)| Edge { from: from.clone(), to: to.clone(), place: place.clone() })
        });
        circles.push(Circle { within: within.to_vec(), edges: edges.collect() });
    }
    circles
}

/// All that a module names, and what these name, and so on.
fn reached_from<'a>(module: &'a String, siblings: &'a Siblings) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut todo = vec![module];
    while let Some(module) = todo.pop() {
        for named in siblings.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(named) {
                todo.push(named);
            }
        }
    }
    reached
}

/// The words and signs of a file, `::` as one; without comments, texts and single characters, and without what is there for tests or
/// for the documentation only.
fn tokens(text: &str) -> Vec<String> {
    let all = words(&code(text));
    let mut kept = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let rest: Vec<&str> = all[at..].iter().take(7).map(String::as_str).collect();
        match rest[..] {
            ["#", "[", "cfg", "(", "test" | "doc", ")", "]"] => at = end_of_item(&all, at + 7),
            _ => {
                kept.push(all[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// Where what begins at a place ends: at its `;`, or with its braces, unless it is a `use`, whose braces are not its end.
fn end_of_item(all: &[String], begin: usize) -> usize {
    let mut depth = 0_usize;
    let mut imports = false;
    for (at, word) in all.iter().enumerate().skip(begin) {
        match word.as_str() {
            "use" if depth == 0 => imports = true,
            "{" | "(" | "[" => depth += 1,
            // The end of what it is part of.
            "}" | ")" | "]" if depth == 0 => return at,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        if depth == 0 && word == "}" && !imports {
            return at + 1;
        }
    }
    all.len()
}

/// A file without comments, texts and single characters.
fn code(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while at < all.len() {
        let next = all.get(at + 1).copied();
        match (all[at], next) {
            ('/', Some('/')) => at += all[at..].iter().take_while(|&&c| c != '\n').count(),
            ('/', Some('*')) => at = end_of_comment(&all, at),
            ('"', _) => at = end_of_text(&all, at),
            ('r', Some('"' | '#')) if !code.ends_with(is_of_word) => at = end_of_raw_text(&all, at),
            ('b', Some('r')) if !code.ends_with(is_of_word) && matches!(all.get(at + 2), Some('"' | '#')) => {
                at = end_of_raw_text(&all, at + 1);
            }
            ('\'', Some('\\')) => {
                at += 3 + all[(at + 3).min(all.len())..].iter().take_while(|&&c| c != '\'').count() + 1
            }
            ('\'', Some(_)) if all.get(at + 2) == Some(&'\'') => at += 3,
            (other, _) => {
                code.push(other);
                at += 1;
                continue;
            }
        }
        code.push(' ');
    }
    code
}

/// Comments lie in comments.
fn end_of_comment(all: &[char], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0);
    while at < all.len() {
        match (all[at], all.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_text(all: &[char], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < all.len() && all[at] != '"' {
        at += if all[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// As many signs as stand before a raw text stand behind it. `r#name` is no text.
fn end_of_raw_text(all: &[char], begin: usize) -> usize {
    let signs = all[begin + 1..].iter().take_while(|&&c| c == '#').count();
    let mut at = begin + 1 + signs;
    if all.get(at) != Some(&'"') {
        return at;
    }
    at += 1;
    while at < all.len() {
        let ends = all[at] == '"' && all[at + 1..].iter().take(signs).filter(|&&c| c == '#').count() == signs;
        at += 1;
        if ends {
            return at + signs;
        }
    }
    at
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    for c in code.chars() {
        match words.last_mut() {
            Some(word) if is_of_word(c) && is_of_word(last) => word.push(c),
            Some(word) if c == ':' && last == ':' && word == ":" => word.push(c),
            _ if c.is_whitespace() => {}
            _ => words.push(c.to_string()),
        }
        last = c;
    }
    words
}

/// All paths from the crate's root, or from where they stand, as names from the root.
fn paths(tokens: &[String], module: &[String]) -> Vec<Module> {
    let mut paths = Vec::new();
    let mut inner: Vec<(String, usize)> = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while at < tokens.len() {
        let word = tokens[at].as_str();
        let next = tokens.get(at + 1).map_or("", String::as_str);
        match word {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inner.retain(|(_, begun)| *begun <= depth);
            }
            "mod" if tokens.get(at + 2).is_some_and(|sign| sign == "{") => {
                inner.push((next.to_owned(), depth + 1));
            }
            "crate" | "self" | "super" if next == "::" && (at == 0 || tokens[at - 1] != "::") => {
                let here: Module =
                    module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
                let mut found = Vec::new();
                at = tree(tokens, at, &[], &mut found);
                paths.extend(found.iter().filter_map(|path| resolved(path, &here)));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// Reads a path that may end in a list of paths; where it ends.
fn tree(tokens: &[String], begin: usize, before: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = before.to_vec();
    let mut at = begin;
    while let Some(word) = tokens.get(at) {
        if word == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|word| word != "}") {
                at = match tokens[at].starts_with(is_of_word) {
                    true => tree(tokens, at, &path, found),
                    false => at + 1,
                };
            }
            return at + 1;
        }
        if !word.starts_with(is_of_word) {
            break;
        }
        path.push(word.clone());
        at += 1;
        if tokens.get(at).is_none_or(|sign| sign != "::") {
            if tokens.get(at).is_some_and(|word| word == "as") {
                at += 2;
            }
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

/// A path as names from the crate's root; nothing where it leads above that.
fn resolved(path: &[String], here: &[String]) -> Option<Module> {
    let mut names = here.to_vec();
    let mut rest = path.iter();
    match rest.next()?.as_str() {
        "crate" => names.clear(),
        "super" => drop(names.pop()?),
        _ => {}
    }
    for name in rest {
        match name.as_str() {
            "super" => drop(names.pop()?),
            "self" => {}
            _ => names.push(name.clone()),
        }
    }
    Some(names)
}

/// The edges of the only circle of a crate that is made up.
fn edges(sources: &[(&str, &str)]) -> Vec<(String, String)> {
    let sources: Vec<_> = sources.iter().map(|(file, text)| (module_of(file), (*text).to_owned())).collect();
    let circles = circles(&sources);
    assert!(circles.len() < 2, "{circles:?}");
    circles.into_iter().flat_map(|circle| circle.edges).map(|edge| (edge.from, edge.to)).collect()
}

#[test]
fn two_modules_that_name_each_other_are_a_circle() {
    let both = [("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())];
    assert_eq!(edges(&[("a.rs", "use crate::b::X;"), ("b.rs", "use super::a::Y;")]), both);
    assert_eq!(
        edges(&[("a.rs", "fn f() { crate::b::g() }"), ("b/mod.rs", "use crate::{c, a::{self, Y}};")]),
        both
    );
    assert_eq!(
        edges(&[("a.rs", "pub(crate) use super::{x, b};"), ("b.rs", "impl From<super::a::Y> for Z {}")]),
        both
    );
    // Deeper ones count for what they lie in.
    assert_eq!(
        edges(&[("a.rs", ""), ("a/x/y.rs", "use crate::b::X;"), ("b.rs", "use crate::a::x::y::Z;")]),
        both
    );
    assert_eq!(edges(&[("a.rs", "use crate::b;"), ("b.rs", "mod inner { use super::super::a::Y; }")]), both);
    assert_eq!(
        edges(&[("a.rs", "use crate::{b::{X, Z as W}, c};"), ("b.rs", "use crate::{x::{y}, a};")]),
        both
    );
}

#[test]
fn a_longer_circle_is_found_with_all_its_edges_and_nothing_beside_it() {
    let found = edges(&[
        ("main.rs", "use crate::a::A;"),
        ("a.rs", "use crate::b::B;\nuse crate::d::D;"),
        ("b.rs", "use crate::c::C;"),
        ("c.rs", "use crate::a::A;"),
        ("d.rs", ""),
        ("e.rs", "use crate::a::A;"),
    ]);
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(found, [edge("a", "b"), edge("b", "c"), edge("c", "a")]);
}

#[test]
fn circles_are_found_within_a_folder_too_and_told_with_their_places() {
    let files =
        [("p/mod.rs", "mod a; mod b;"), ("p/a.rs", "use super::b::B;"), ("p/b.rs", "use crate::p::a::A;")];
    let sources: Vec<_> = files.iter().map(|(file, text)| (module_of(file), (*text).to_owned())).collect();
    let circles = circles(&sources);
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert_eq!(circles[0].within, ["p"]);
    assert_eq!(circles[0].edges[0].place, "p::a names p::b::B");
}

#[test]
fn what_is_no_circle_is_none() {
    let none = |one: &str, other: &str| {
        let found =
            edges(&[("lib.rs", "use a::A;"), ("a.rs", one), ("b.rs", other), ("a/deep.rs", "use super::A;")]);
        assert!(found.is_empty(), "{one} | {other}: {found:?}");
    };
    let back = "use crate::a::A;";
    none("", back);
    none("use deep::D; use self::deep::E;", back);
    none("// use crate::b::B;\n/* use crate::b::B; /* */ use crate::b::C; */", back);
    none("/// As [`crate::b::B`].\nstruct A;", back);
    none(r####"const A: &str = "crate::b::B \" crate::b::C"; const B: &str = r#"crate::b::B"#;"####, back);
    none("const Q: char = '\"'; const N: char = '\\''; fn f<'a>(x: &'a str) {} // crate::b::B", back);
    none("#[cfg(doc)]\nuse crate::b::{B, C};\nuse std::fs;", back);
    none("#[cfg(test)]\nmod tests { use crate::b::B; fn f() { if true {} } }", back);
    none("#[cfg(test)]\nfn only(b: crate::b::B) -> [u8; 2] { [0; 2] }", back);
    // What comes behind it counts again.
    let behind = [("a.rs", "#[cfg(test)]\nmod tests {}\nuse crate::b::B;"), ("b.rs", back)];
    assert_eq!(edges(&behind).len(), 2);
    let behind = [("a.rs", "#[cfg(doc)]\nuse crate::c::{C};\nuse crate::b::B;"), ("b.rs", back)];
    assert_eq!(edges(&behind).len(), 2);
    let behind = [("a.rs", "const A: char = '\\u{1F}'; use crate::b::B;"), ("b.rs", back)];
    assert_eq!(edges(&behind).len(), 2);
}
