//! Finds what a module of the agent imports, from its tokens: comments and strings do not count, code inside macros
//! does. Who may import whom is in `stages`. Tests may import what they like.

use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::stages::{CLOCKS, CRATES, Kind, MODULES, Module, OUTSIDE};

/// What is wrong with the imports of the file of that name.
pub(super) fn problems(name: &str, text: &str) -> Vec<String> {
    let Some(place) = Place::of(name) else {
        return Vec::new();
    };
    let Some(module) = MODULES.iter().find(|module| module.name == place.module) else {
        return vec![format!("{name}: the module {} has no place in xtask/src/tidy/stages.rs", place.module)];
    };
    if module.kind == Kind::Whole {
        return Vec::new();
    }
    let stream = match TokenStream::from_str(text) {
        Ok(stream) => stream,
        Err(error) => return vec![format!("{name}: is not Rust: {error}")],
    };
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let paths = paths(&tokens);
    let found = paths.iter().filter_map(|(path, line)| Some((refusal(module, &place, path)?, line)));
    found.map(|(sentence, line)| format!("{name}:{line}: {sentence}")).collect()
}

/// Where a file stands in the agent's tree of modules.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    /// The module below the crate's root.
    module: &'a str,
    /// How many `super` lead to the crate's root.
    depth: usize,
}

impl<'a> Place<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let path = name.strip_prefix("agent/src/")?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let parts: Vec<&str> = path.split('/').collect();
        let module = *parts.first()?;
        let free = matches!(module, "lib" | "main" | "bin") || parts.contains(&"tests");
        (!free).then_some(Self { module, depth: parts.len() })
    }
}

/// Why a module may not name this path.
fn refusal(module: &Module, place: &Place<'_>, path: &[String]) -> Option<String> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let supers = words.iter().take_while(|word| **word == "super").count();
    let inside = match words.first() {
        Some(&"crate") => words.get(1),
        Some(&"super") if supers >= place.depth => words.get(supers),
        _ => None,
    };
    if let Some(other) = inside.filter(|other| MODULES.iter().any(|module| module.name == **other)) {
        let allowed = *other == module.name || module.imports.contains(other);
        return (!allowed).then(|| {
            let may = if module.imports.is_empty() { "none".to_owned() } else { module.imports.join(", ") };
            format!("{} imports {other}, wanted only earlier modules: {may}", module.name)
        });
    }
    let outside = CRATES.iter().find(|(name, _)| words.first() == Some(name));
    if let Some((name, who)) = outside.filter(|(_, who)| !who.contains(&module.name)) {
        return Some(format!("{} names the crate {name}, wanted it only in {}", module.name, who.join(", ")));
    }
    if module.kind != Kind::Stage {
        return None;
    }
    let begins = |start: &&&str| start.split("::").eq(words.iter().take(start.split("::").count()).copied());
    if let Some(outside) = OUTSIDE.iter().find(begins) {
        return Some(format!("{} names {outside}, wanted the outside world only at the rim", module.name));
    }
    let ends = |end: &&&str| words.len() >= 2 && end.split("::").eq(words.iter().skip(words.len() - 2).copied());
    let clock = CLOCKS.iter().find(ends)?;
    Some(format!("{} calls {clock}, wanted time as a value that comes in", module.name))
}

/// A token and its line.
type Token = (String, usize);

/// The tokens of a file in order, braces included, without the modules that are compiled for tests only.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut test_only = false;
    let mut before = String::new();
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let text = group.stream().to_string();
                let attribute = before == "#" && group.delimiter() == Delimiter::Bracket;
                if attribute {
                    test_only |= text.replace(' ', "") == "cfg(test)";
                } else if test_only && group.delimiter() == Delimiter::Brace {
                    test_only = false;
                } else {
                    tokens.push(("{".to_owned(), line));
                    flatten(group.stream(), tokens);
                    tokens.push(("}".to_owned(), line));
                }
                "group".clone_into(&mut before);
            }
            TokenTree::Punct(punct) => {
                let text = punct.as_char().to_string();
                test_only &= text != ";";
                tokens.push((text.clone(), line));
                before = text;
            }
            TokenTree::Ident(ident) => {
                tokens.push((ident.to_string(), line));
                "ident".clone_into(&mut before);
            }
            TokenTree::Literal(_) => {
                tokens.push(("literal".to_owned(), line));
                "literal".clone_into(&mut before);
            }
        }
    }
}

/// Every path of the file, those in braces with what stands before the braces.
fn paths(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = path(tokens, at, &[], &mut found).max(at.saturating_add(1));
    }
    found
}

/// Reads the path that begins at a token, if one does, and says where it ends.
fn path(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |(text, _)| text.as_str());
    let is_name = |at: usize| text(at).starts_with(|first: char| first.is_alphabetic() || first == '_');
    let line = tokens.get(start).map_or(0, |(_, line)| *line);
    let mut words = prefix.to_vec();
    let mut at = start;
    if !is_name(at) {
        return at;
    }
    loop {
        words.push(text(at).to_owned());
        at = at.saturating_add(1);
        if text(at) != ":" || text(at.saturating_add(1)) != ":" {
            break;
        }
        at = at.saturating_add(2);
        if text(at) == "{" {
            at = at.saturating_add(1);
            while at < tokens.len() && text(at) != "}" {
                at = path(tokens, at, &words, found).max(at.saturating_add(1));
            }
            return at;
        }
        if !is_name(at) {
            break;
        }
    }
    if words.len() > 1 {
        found.push((words, line));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::problems;

    #[test]
    fn a_stage_may_import_the_stages_before_it() {
        let text = "//! M.\nuse crate::{attribution::Record, snapshot};\nuse std::net::IpAddr;\nuse core::fmt;\n";
        assert_eq!(problems("agent/src/model/totals.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_stage_may_not_import_a_later_one_in_any_spelling() {
        let wanted = ["agent/src/snapshot/a.rs:2: snapshot imports model, wanted only earlier modules: none"];
        for text in [
            "//! S.\nuse crate::model::Totals;",
            "//! S.\nuse crate::{snapshot::b, model::{Totals, Series}};",
            "//! S.\nuse super::super::model::Totals;",
            "//! S.\nfn f() { println!(\"{}\", crate::model::N) }",
        ] {
            let found = problems("agent/src/snapshot/a.rs", text);
            assert_eq!(found.first().map(String::as_str), Some(wanted[0]), "{text}");
        }
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let text = "//! R: not crate::model.\nconst S: &str = \"std::fs\";\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(problems("agent/src/route/mod.rs", text), Vec::<String>::new());
        assert_eq!(problems("agent/src/route/tests.rs", "//! T.\nuse std::fs;"), Vec::<String>::new());
    }

    #[test]
    fn what_follows_a_test_module_declaration_counts() {
        let text = "//! R.\n#[cfg(test)]\nmod tests;\nfn f() { std::fs::read(\"x\"); }\n";
        let wanted = ["agent/src/route/mod.rs:4: route names std::fs, wanted the outside world only at the rim"];
        assert_eq!(problems("agent/src/route/mod.rs", text), wanted);
    }

    #[test]
    fn the_outside_world_is_the_rims() {
        assert_eq!(
            problems("agent/src/model.rs", "//! M.\nfn f() { std::time::Instant::now(); }\nuse aya::Ebpf;\n"),
            [
                "agent/src/model.rs:2: model calls Instant::now, wanted time as a value that comes in",
                "agent/src/model.rs:3: model names the crate aya, wanted it only in kernel",
            ]
        );
        assert_eq!(
            problems("agent/src/config/file.rs", "//! F.\nuse std::fs;\nuse toml::Value;\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            problems("agent/src/kernel/a.rs", "//! K.\nuse hyper::body::Bytes;\n"),
            ["agent/src/kernel/a.rs:2: kernel names the crate hyper, wanted it only in http, upstream, api"]
        );
    }

    #[test]
    fn a_new_module_wants_a_place_in_the_table() {
        assert_eq!(
            problems("agent/src/odds.rs", "//! O.\n"),
            ["agent/src/odds.rs: the module odds has no place in xtask/src/tidy/stages.rs"]
        );
        assert_eq!(problems("agent/src/main.rs", "//! M.\nuse aya::Ebpf;"), Vec::<String>::new());
    }
}
