//! Rust text without its comments and strings, so that rules see code alone.

use super::Source;

/// Rust source with every comment, string and character literal blanked out: lines and columns are
/// those of the original.
pub(super) struct Code {
    text: String,
    /// For each line, whether it belongs to a `#[cfg(test)]` item.
    tested: Vec<bool>,
}

impl Code {
    pub(super) fn new(source: &Source) -> Self {
        let text = blank(&source.text);
        let tested = if source.test { vec![true; text.lines().count()] } else { test_lines(&text) };
        Self { text, tested }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line of the code, from 1, at an offset into its text.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|&&octet| octet == b'\n').count()
    }

    /// Whether the line, from 1, is compiled for tests alone.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.tested.get(line - 1).copied().unwrap_or(false)
    }

    /// The offsets at which `word` stands by itself.
    pub(super) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.text.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
            let (before, after) = self.text.split_at(offset);
            let after = after.strip_prefix(word).unwrap_or_default();
            !before.ends_with(is_word) && !after.starts_with(is_word)
        })
    }
}

pub(super) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether a path is that of a file of tests.
pub(super) fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}

/// The modules that a file declares for tests alone, as paths of files.
pub(super) fn test_modules(source: &Source) -> Vec<String> {
    let code = Code::new(source);
    let folder = ["lib.rs", "main.rs"]
        .iter()
        .find_map(|root| source.path.strip_suffix(root))
        .map_or_else(|| source.path.replace(".rs", "/"), str::to_owned);
    code.words("mod")
        .filter(|&offset| code.is_test(code.line_at(offset)))
        .filter_map(|offset| {
            let name = code.text().get(offset + "mod".len()..)?.split(';').next()?.trim();
            name.chars().all(is_word).then(|| format!("{folder}{name}.rs"))
        })
        .collect()
}

/// Marks the lines from each `#[cfg(test)]` to the end of the item that it stands before.
fn test_lines(code: &str) -> Vec<bool> {
    let mut tested = vec![false; code.lines().count()];
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let rest = code.get(start + attribute.len()..).unwrap_or_default();
        let mut depth = 0_usize;
        let end = rest.find(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(character, '}' | ';')
        });
        let last = code.len().min(start + attribute.len() + end.unwrap_or(rest.len()));
        let line = |offset| code.get(..offset).unwrap_or_default().matches('\n').count();
        for tested in tested.iter_mut().take(line(last) + 1).skip(line(start)) {
            *tested = true;
        }
    }
    tested
}

/// Replaces what is in comments and literals by spaces, octet for octet.
fn blank(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let (length, keep) = token(rest, previous);
        let (token, after) = rest.split_at(length);
        if keep {
            out.push_str(token);
        } else {
            out.extend(token.bytes().map(|octet| if octet == b'\n' { '\n' } else { ' ' }));
        }
        previous = first;
        rest = after;
    }
    out
}

/// The length of the literal, comment or character that `rest` begins with, and whether it is code.
fn token(rest: &str, previous: char) -> (usize, bool) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if rest.starts_with('"') {
        return (string(rest), false);
    }
    if !is_word(previous)
        && let Some(length) = prefixed_string(rest)
    {
        return (length, false);
    }
    if rest.starts_with('\'')
        && let Some(length) = character(rest)
    {
        return (length, false);
    }
    (first, true)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut offset = 0;
    while let Some(here) = rest.get(offset..).filter(|here| !here.is_empty()) {
        let step = match here.get(..2) {
            Some("/*") => {
                depth += 1;
                2
            }
            Some("*/") => {
                depth -= 1;
                2
            }
            _ => here.chars().next().map_or(1, char::len_utf8),
        };
        offset += step;
        if depth == 0 {
            break;
        }
    }
    offset
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|&(_, character)| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(offset, _)| offset + 1)
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`.
fn prefixed_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| after.trim_start_matches('#').starts_with('"'))
    })?;
    let after = rest.strip_prefix(prefix)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !prefix.ends_with('r') {
        return (hashes == 0).then(|| prefix.len() + string(after));
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let content = after.get(hashes + 1..)?;
    let content_length = content.find(&end).map_or(content.len(), |offset| offset + end.len());
    Some(prefix.len() + hashes + 1 + content_length)
}

/// `'x'` or `'\n'`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        characters.next();
        return characters.find(|&(_, character)| character == '\'').map(|(offset, _)| offset + 1);
    }
    characters.next().filter(|&(_, character)| character == '\'').map(|(offset, _)| offset + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source as file;

    #[test]
    fn only_code_is_left_and_it_stays_where_it_was() {
        for (source, code) in [
            ("let a = 1; // unsafe", "let a = 1;          "),
            ("/* a /* b */ c */ d", "                  d"),
            (r#"f("un\"safe", g)"#, "f(          , g)"),
            ("f(r#\"a\"b\"#, g)", "f(        , g)"),
            ("f(b\"ab\", br\"c\", c\"d\")", "f(     ,      ,     )"),
            ("for 'a' in x::<'a>()", "for     in x::<'a>()"),
            (r"match '\'' { '\\' => 'é' }", "match      {      =>      }"),
            ("\"a\nb\" c", "  \n   c"),
            ("expr\"a\"", "expr   "),
        ] {
            assert_eq!(blank(source), code, "{source}");
        }
    }

    #[test]
    fn literals_that_never_end_do_not_run_past_the_text() {
        for source in ["\"abc", "/* abc", "r#\"abc\"", "'\\", "'", "b\"", "//", "\"é"] {
            assert_eq!(blank(source).len(), source.len(), "{source}");
        }
    }

    #[test]
    fn test_items_are_known_by_their_lines() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n\
                      #[cfg(test)]\nmod more;\nfn d() {}\n";
        let code = Code::new(&file("firewall/src/a.rs", source));
        let tested: Vec<usize> = (1..=9).filter(|&line| code.is_test(line)).collect();
        assert_eq!(tested, [2, 3, 4, 5, 7, 8]);
        assert!(Code::new(&file("firewall/src/a/tests.rs", source)).is_test(1));
        assert!(Code::new(&file("firewall/tests/it/main.rs", source)).is_test(1));
    }

    #[test]
    fn words_stand_by_themselves() {
        let code = Code::new(&file("a.rs", "unsafe fn unsafe_code(not_unsafe: unsafe)"));
        assert_eq!(code.words("unsafe").collect::<Vec<_>>(), [0, 34]);
    }

    #[test]
    fn modules_declared_for_tests_are_known_by_their_files() {
        let text = "mod a;\n#[cfg(test)]\nmod simulation;\n#[cfg(test)]\nmod tests {\n}\n";
        let modules = |path| test_modules(&file(path, text));
        assert_eq!(modules("firewall/src/ban.rs"), ["firewall/src/ban/simulation.rs"]);
        assert_eq!(modules("firewall/src/lib.rs"), ["firewall/src/simulation.rs"]);
    }
}
