//! Links and paths in documents, and where they lead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Our folders, as paths begin.
const ROOMS: [&str; 5] = ["host/", "guest/", "policies/", "tests/", "wit/"];

/// A document without its blocks of code and, unless `spans` says so, without code inside of lines; its lines stay.
pub fn prose(text: &str, spans: bool) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            let parts = line.split('`').enumerate().filter(|(n, _)| spans || n % 2 == 0);
            out += &parts.map(|(_, part)| part).collect::<Vec<_>>().join(if spans { "" } else { " " });
        }
        out.push('\n');
    }
    out
}

/// The anchors that a document's headings have, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = BTreeSet::new();
    let plain = prose(text, true);
    for title in plain.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim()) {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(slug.clone()).and_modify(|count| *count += 1).or_default();
        out.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
    }
    out
}

/// The targets of a document's links, with their lines; those that leave the repository are not among them.
fn links(text: &str) -> Vec<(usize, String)> {
    let text = prose(text, false);
    let mut found = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim());
        let ours = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
        found.extend(ours.map(|target| (line + 1, target.to_owned())));
    }
    found
}

/// The paths below our folders that stand in a document as code, in lines or blocks.
pub fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, text) in text.lines().enumerate() {
        fenced ^= text.trim_start().starts_with("```");
        let code: Vec<&str> =
            if fenced { text.split_whitespace().collect() } else { text.split('`').skip(1).step_by(2).collect() };
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let ours = |word: &str| ROOMS.iter().any(|room| word.starts_with(room)) && word.chars().all(plain);
        found.extend(code.into_iter().filter(|word| ours(word)).map(|path| (line + 1, path.to_owned())));
    }
    found
}

/// `folder/../x` as the file system would walk it; absent where it leaves the repository.
fn resolved(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(part) => path.push(part),
            _ => {}
        }
    }
    Some(path)
}

/// What is wrong with the links of the document at this path, all documents being known by theirs.
pub fn broken(path: &str, texts: &BTreeMap<String, String>, is_there: &dyn Fn(&Path) -> bool) -> Vec<(usize, String)> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let leads = |target: &str| -> bool {
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let to = if file.is_empty() { Some(PathBuf::from(path)) } else { resolved(folder, file) };
        let Some(to) = to.filter(|to| is_there(to)) else { return false };
        let text = to.to_str().and_then(|to| texts.get(to));
        anchor.is_none_or(|anchor| text.is_some_and(|text| anchors(text).contains(anchor)))
    };
    let bad = links(&texts[path]).into_iter().filter(|(_, target)| !leads(target));
    bad.map(|(line, target)| (line, format!("the link {target} leads nowhere"))).collect()
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let texts: BTreeMap<String, String> = [
        ("README.md", "# One\n## Two, `three`!\n## Two three\n[a](host/doc/x.md#same-1) [b](#two-three-1) [c](host)"),
        ("host/doc/x.md", "## Same\n## Same\n[a](../../README.md#two-three) [b](https://x.example/y) `[c](no)`"),
        ("bad.md", "[a](no.md) [b](README.md#no) [c](#no) [d](../README.md) [e](host#one)"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    let is_there = |path: &Path| path == Path::new("host") || texts.contains_key(path.to_str().unwrap());
    let count = |path: &str| broken(path, &texts, &is_there).len();
    assert_eq!(["README.md", "host/doc/x.md", "bad.md"].map(count), [0, 0, 5]);
    assert_eq!(paths("see `tests/run` and `tests/x/*.rs`\n```\n$ cp host/doc /host/x\n```\n").len(), 2);
}
