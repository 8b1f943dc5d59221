//! ECMA-262 patterns on a linear engine; look-around and back-references on a bounded one that
//! fails closed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, MatchError};

mod translate;

use translate::translate;

/// Steps the fallback engine may go back, per match.
const BACKTRACK_LIMIT: usize = 100_000;
/// Octets beyond which the fallback engine is not asked.
const FALLBACK_INPUT_LIMIT: usize = 16 * 1024;
/// Octets that one compiled pattern may take.
const COMPILED_LIMIT: usize = 32 * 1024 * 1024;
/// Octets that the table of a pattern may take; with more, it runs on the engine that makes parts of
/// its table as they are needed.
const TABLE_LIMIT: usize = 64 * 1024;
/// Octets of a text that is looked at as a pattern itself.
const SYNTAX_LIMIT: usize = 1024;
/// Levels of groups and classes in such a text.
const SYNTAX_DEPTH_LIMIT: u32 = 64;

thread_local! {
    static UNDECIDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a match since the last call was left undecided; forgets it. A verdict that depends on
/// such a match is worth nothing, whether it accepts or, below a `not`, refuses.
pub(crate) fn take_undecided() -> bool {
    UNDECIDED.replace(false)
}

/// Whether `text` is a pattern of ECMA-262, in at most 1,024 octets. It is read and not compiled:
/// nothing grows with what its repetitions count, and the costliest text found, 200 classes of
/// letters, takes a millisecond.
pub(crate) fn is_pattern(text: &str) -> bool {
    if text.len() > SYNTAX_LIMIT {
        return false;
    }
    let Ok(translated) = translate(text) else { return false };
    if translated.backtracks {
        return fancy_regex::Expr::parse_tree(&translated.pattern).is_ok();
    }
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(SYNTAX_DEPTH_LIMIT).build();
    parser.parse(&translated.pattern).is_ok()
}

/// A compiled pattern, unanchored as JSON Schema demands.
#[derive(Debug)]
pub(crate) struct Pattern(Engine);

#[derive(Debug)]
enum Engine {
    /// A table that is complete before the first text: one look-up an octet, and nothing to write,
    /// so that workers share it without taking turns.
    Table(Box<dense::DFA<Vec<u32>>>),
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// # Errors
    ///
    /// What is wrong with `source`, in words.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let translated = translate(source)?;
        if !translated.backtracks {
            if let Some(table) = table(&translated.pattern) {
                return Ok(Self(Engine::Table(table)));
            }
            return regex::RegexBuilder::new(&translated.pattern)
                .size_limit(COMPILED_LIMIT)
                .build()
                .map(|regex| Self(Engine::Linear(regex)))
                .map_err(|error| reason(&error.to_string()));
        }
        fancy_regex::RegexBuilder::new(&translated.pattern)
            .backtrack_limit(BACKTRACK_LIMIT)
            .delegate_size_limit(COMPILED_LIMIT)
            .build()
            .map(|regex| Self(Engine::Backtracking(Box::new(regex))))
            .map_err(|error| reason(&error.to_string()))
    }

    /// Whether the pattern matches anywhere in `text`; false, and [`take_undecided`] true, where
    /// that could not be found out within the bounds.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        // rust-lang/regex#1344: some pattern and input pairs panic inside the engine.
        let matched = match &self.0 {
            Engine::Table(table) => {
                catch_unwind(AssertUnwindSafe(|| search(table, text).ok())).ok().flatten()
            }
            Engine::Linear(regex) => catch_unwind(AssertUnwindSafe(|| regex.is_match(text))).ok(),
            Engine::Backtracking(_) if text.len() > FALLBACK_INPUT_LIMIT => None,
            Engine::Backtracking(regex) => {
                catch_unwind(AssertUnwindSafe(|| regex.is_match(text).ok())).ok().flatten()
            }
        };
        matched.unwrap_or_else(|| {
            UNDECIDED.set(true);
            false
        })
    }
}

/// The pattern as a linear engine reads it; none where it needs the other, or is none.
pub(crate) fn linear_source(source: &str) -> Option<String> {
    let translated = translate(source).ok()?;
    (!translated.backtracks).then_some(translated.pattern)
}

/// The whole table of a pattern, if it is small.
fn table(pattern: &str) -> Option<Box<dense::DFA<Vec<u32>>>> {
    let thompson = thompson::Config::new()
        .nfa_size_limit(Some(TABLE_LIMIT))
        .which_captures(WhichCaptures::None);
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .dfa_size_limit(Some(TABLE_LIMIT))
        .determinize_size_limit(Some(4 * TABLE_LIMIT));
    dense::Builder::new().thompson(thompson).configure(config).build(pattern).ok().map(Box::new)
}

/// # Errors
///
/// None that is known: the table knows every octet.
fn search(table: &dense::DFA<Vec<u32>>, text: &str) -> Result<bool, MatchError> {
    table.try_search_fwd(&Input::new(text).earliest(true)).map(|found| found.is_some())
}

/// The engines draw the pattern and a caret over several lines; the last says what is wrong.
fn reason(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests;
