//! ECMA-262 patterns on a linear engine; look-around and back-references on a bounded one that
//! fails closed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, Input};

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
/// Unicode properties in such a text: each stands for hundreds of ranges.
const SYNTAX_PROPERTIES: usize = 16;
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

/// Whether `text` is a pattern of ECMA-262, in at most 1,024 octets with 16 Unicode properties. It is
/// read and not compiled, so that nothing grows with what its repetitions count: the costliest texts
/// found take a third of a millisecond.
pub(crate) fn is_pattern(text: &str) -> bool {
    let properties = text.matches("\\p").count() + text.matches("\\P").count();
    if text.len() > SYNTAX_LIMIT || properties > SYNTAX_PROPERTIES {
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
    Table(Box<Table>),
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

#[derive(Debug)]
struct Table {
    states: dense::DFA<Vec<u32>>,
    /// The state before the first octet.
    start: StateID,
    source: Box<str>,
}

impl Pattern {
    /// # Errors
    ///
    /// What is wrong with `source`, in words.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let translated = translate(source)?;
        if !translated.backtracks {
            if let Some(table) = Table::new(&translated.pattern) {
                return Ok(Self(Engine::Table(Box::new(table))));
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
                catch_unwind(AssertUnwindSafe(|| table.is_match(text))).ok().flatten()
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

    /// The pattern as the linear engine reads it; none where it needs the other.
    pub(crate) fn linear_source(&self) -> Option<&str> {
        match &self.0 {
            Engine::Table(table) => Some(&table.source),
            Engine::Linear(regex) => Some(regex.as_str()),
            Engine::Backtracking(_) => None,
        }
    }
}

impl Table {
    /// None where it would be large.
    fn new(source: &str) -> Option<Self> {
        let thompson = thompson::Config::new()
            .nfa_size_limit(Some(TABLE_LIMIT))
            .which_captures(WhichCaptures::None);
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(TABLE_LIMIT))
            .determinize_size_limit(Some(4 * TABLE_LIMIT));
        let states =
            dense::Builder::new().thompson(thompson).configure(config).build(source).ok()?;
        let start = states.start_state(&start::Config::new().anchored(Anchored::No)).ok()?;
        Some(Self { states, start, source: source.into() })
    }

    /// None where the table leaves it undecided, which none is known to do. The library's own search
    /// prepares for more than one answer, which takes longer than most texts; it is needed where a
    /// match may be empty, since none must lie within a character.
    fn is_match(&self, text: &str) -> Option<bool> {
        if self.states.has_empty() {
            let found = self.states.try_search_fwd(&Input::new(text).earliest(true));
            return found.map(|found| found.is_some()).ok();
        }
        let mut state = self.start;
        for octet in text.bytes() {
            state = self.states.next_state(state, octet);
            if self.states.is_special_state(state) {
                if self.states.is_match_state(state) {
                    return Some(true);
                }
                if self.states.is_dead_state(state) {
                    return Some(false);
                }
                if self.states.is_quit_state(state) {
                    return None;
                }
            }
        }
        Some(self.states.is_match_state(self.states.next_eoi_state(state)))
    }
}

/// The engines draw the pattern and a caret over several lines; the last says what is wrong.
fn reason(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests;
