//! Holds README, ARCHITECTURE.md and the book to what the sources say.
//!
//! `UPDATE_BOOK=1` has the pages that come from tables written anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidings::{OPTIONS, OptionKind};

#[test]
fn the_page_of_options_is_the_table() {
    let page = root().join("docs/src/options.md");
    let expected = options_page();
    if std::env::var_os("UPDATE_BOOK").is_some() {
        fs::write(&page, &expected).unwrap();
    }
    assert!(
        read(&page) == expected,
        "docs/src/options.md is not what the option table gives; \
         `UPDATE_BOOK=1 cargo test -p tidings-examples --test book` writes it anew"
    );
}

#[test]
fn every_event_and_reason_has_its_row() {
    let page = read(&root().join("docs/src/events.md"));
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(name, _)| name).collect();
    let mut names = quoted_after(&root().join("crates/socket/src/events.rs"), "} => \"");
    let reasons = quoted_after(&root().join("crates/zmtp/src/close_reason.rs"), "=> \"");
    names.extend(reasons.into_iter().filter(|text| !text.contains(|c: char| c == ' ' || c.is_ascii_uppercase())));
    names.extend(quoted_after(&root().join("crates/socket/src/events.rs"), "Self::Accepted => \""));
    for file in ["state.rs", "zap.rs"] {
        let reasons = quoted_after(&root().join("crates/socket/src").join(file), ": &str = \"");
        names.extend(reasons.into_iter().filter(|text| !text.contains([' ', '.'])));
    }
    assert!(names.len() > 30 && names.contains("pair-taken") && names.contains("accepted"), "{names:?}");
    let missing: Vec<&String> = names.iter().filter(|name| !rows.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/src/events.md has no row for {missing:?}");
}

#[test]
fn the_architecture_says_where_every_option_takes_effect() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let missing: Vec<&str> =
        OPTIONS.iter().map(|row| row.name).filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not place {missing:?}");
}

#[test]
fn the_functions_where_options_take_effect_are_there() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let table = text.split_once("| options | file").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let rows: Vec<Vec<&str>> = table.unwrap().lines().skip(2).map(|row| row.split('|').collect()).collect();
    assert!(rows.len() > 10, "the table of options is not where it was");
    for row in rows {
        let [_, _, files, functions, _] = row[..] else { panic!("a row of other columns: {row:?}") };
        let sources: String =
            quoted(files).iter().map(|file| read(&root().join("crates/socket/src").join(file))).collect();
        for function in quoted(functions) {
            let is_there = function.contains('/') || sources.contains(&format!("fn {function}("));
            assert!(is_there, "{function} is in none of{files}");
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"] {
        let text = read(&root().join(page));
        for name in quoted(&text) {
            let is_path = name.contains('/') && !name.contains([' ', ':', '*', '…']);
            if is_path && !name.starts_with("target/") && (name.ends_with(".rs") || name.ends_with('/')) {
                let beside = root().join("crates/socket/src").join(name);
                assert!(root().join(name).exists() || beside.exists(), "{page} names {name}, which does not exist");
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CONTRIBUTING.md")];
    pages.push(root().join("examples/README.md"));
    let summary = read(&root().join("docs/src/SUMMARY.md"));
    for entry in fs::read_dir(root().join("docs/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "SUMMARY.md leaves out {name}");
            pages.push(path);
        }
    }
    for page in pages {
        for target in read(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                let path = page.parent().unwrap().join(file);
                assert!(path.exists(), "{} links to {target}, which does not exist", page.display());
            }
        }
    }
}

fn options_page() -> String {
    let mut page = String::from(OPTIONS_HEAD);
    for row in OPTIONS {
        let number = row.number;
        let c_name = if row.c_name.is_empty() { "our own".to_owned() } else { format!("`{}`", row.c_name) };
        let kind = match row.kind {
            OptionKind::Number => "number",
            OptionKind::Flag => "flag",
            OptionKind::Duration => "duration",
            OptionKind::Octets => "octets",
            OptionKind::Key => "key",
            OptionKind::Secret => "secret",
            _ => "text",
        };
        let unit = if row.unit.is_empty() { String::new() } else { format!(" {}", row.unit) };
        let default = if row.default.is_empty() { "empty".to_owned() } else { format!("`{}`{unit}", row.default) };
        page += &format!("\n## {}\n\n{c_name}, {number} · {kind} · default {default}\n\n{}\n", row.name, row.doc);
    }
    page
}

/// What a text has between back quotes
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What stands between `before` and the next quotation mark, wherever it occurs in a source
fn quoted_after(path: &Path, before: &str) -> BTreeSet<String> {
    let source = read(path);
    let found = source.split(before).skip(1).filter_map(|rest| rest.split('"').next());
    found.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("can't read {}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const OPTIONS_HEAD: &str = "\
# Options

Every option of a socket. This page is written from the table in `crates/socket/src/options.rs`; `tidings sock options`
prints the same. An option answers to its name here and to that in `zmq.h`, in any case, with `-` or `_`:

```console
$ tidings sock pull -b tcp://127.0.0.1:5557 --option recv_hwm=10 --option ZMQ_LINGER=0
```

In Rust they are setters: `Options::new().recv_hwm(10)`, for `PullSocket::with_options`. Durations are milliseconds, or
`250ms`, `5s`, `2m`, `1h`. Values take effect on connections made from then on; queue bounds and the overflow policy also
on those that exist, and those of security (`plain_`, `curve_`, `zap_`, `tls_`) on endpoints bound or connected from then
on. `bind_with` and `connect_with` give an endpoint options of its own.
";
