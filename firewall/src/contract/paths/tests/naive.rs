//! The tree against a matcher that tries every template and every split.

use super::*;

/// A sequence of numbers that is the same each time (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % bound
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

const SEGMENTS: &[&str] = &[
    "a", "b", "a-b", "aé", "{}", "{}", "a{}", "{}b", "a{}b", "{}-{}", "{}.{}", "a-{}", "{}--{}",
    "{}-{}-{}", "{}é{}", "{}@{}",
];
const TEXTS: &[&str] = &["a", "b", "-", ".", "%C3%A9", "%40", "@", "a", "b", "-"];

/// Every way in which the parts can be the text, each by the ends of the expressions' values.
fn splits(parts: &[Part], text: &str) -> Vec<Vec<String>> {
    match parts {
        [] => {
            if text.is_empty() {
                vec![Vec::new()]
            } else {
                Vec::new()
            }
        }
        [Part::Literal { decoded, .. }, rest @ ..] => {
            text.strip_prefix(&**decoded).map_or_else(Vec::new, |text| splits(rest, text))
        }
        [Part::Expression(_), rest @ ..] => {
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            let with = |end: usize| {
                let (value, text) = text.split_at(end);
                splits(rest, text).into_iter().map(|mut values| {
                    values.insert(0, value.to_owned());
                    values
                })
            };
            ends.flat_map(with).collect()
        }
    }
}

/// The greater is more literal.
fn rank(segment: &Segment) -> (u8, usize, usize, usize) {
    let literal = |part: Option<&Part>| match part {
        Some(Part::Literal { decoded, .. }) => decoded.len(),
        _ => 0,
    };
    let count = segment.expressions().count();
    let total = segment.parts.iter().map(|part| literal(Some(part))).sum();
    match (count, segment.parts.len()) {
        (0, _) => (2, 0, 0, 0),
        (1, 1) => (0, 0, 0, 0),
        _ => (1, literal(segment.parts.first()), literal(segment.parts.last()), total),
    }
}

/// The template that the path is for, the values, and whether they could be others; none where
/// nothing tells two templates apart.
type Found = Option<(usize, Vec<String>, bool)>;

fn naive(templates: &[Vec<Segment>], path: &str) -> Result<Found, ()> {
    let texts: Vec<_> = path.split('/').skip(1).collect();
    let mut found: Vec<(Vec<_>, usize, Vec<String>, bool)> = Vec::new();
    for (index, template) in templates.iter().enumerate().filter(|(_, t)| t.len() == texts.len()) {
        let decoded = texts.iter().map(|text| decode(text, Plus::Literal).unwrap());
        let splits: Vec<_> =
            template.iter().zip(decoded).map(|(s, text)| splits(&s.parts, &text)).collect();
        if splits.iter().all(|splits| !splits.is_empty()) {
            let ranks = template.iter().map(rank).collect();
            let values = splits.iter().flat_map(|splits| splits[0].clone()).collect();
            found.push((ranks, index, values, splits.iter().any(|splits| splits.len() > 1)));
        }
    }
    found.sort();
    let Some((_, best, values, is_ambiguous)) = found.pop() else { return Ok(None) };
    // What comes first decides, if it can.
    let is_tie = |other: usize| {
        let pairs = templates[best].iter().zip(&templates[other]);
        let first = pairs.into_iter().find(|(one, other)| !one.is_like(other));
        first.is_none_or(|(one, other)| rank(one) == rank(other))
    };
    if found.iter().any(|(_, other, ..)| is_tie(*other)) {
        return Err(());
    }
    Ok(Some((best, values, is_ambiguous)))
}

#[test]
fn the_tree_finds_what_the_naive_matcher_finds() {
    let (mut matched, mut split, mut undecided) = (0, 0, 0);
    for seed in 0..120 {
        let mut numbers = Numbers(seed);
        let mut table = PathTable::new(&Policy::default());
        let mut templates = Vec::new();
        for _ in 0..=numbers.below(12) {
            let mut template = String::new();
            for _ in 0..=numbers.below(3) {
                template = template + "/" + numbers.one(SEGMENTS);
            }
            if numbers.below(8) == 0 {
                template.push('/');
            }
            let named = template.split("{}").enumerate();
            let named: String = named
                .map(
                    |(index, text)| {
                        if index == 0 { text.to_owned() } else { format!("{{{index}}}{text}") }
                    },
                )
                .collect();
            let parts = segments(&named).unwrap();
            let one = declared("GET", templates.len());
            if table.insert(&[], &parts, &named.as_str().into(), one).is_ok() {
                templates.push(parts);
            }
        }
        let overlaps = table.overlaps();
        for _ in 0..200 {
            let mut path = String::new();
            for _ in 0..=numbers.below(3) {
                path.push('/');
                for _ in 0..numbers.below(9) {
                    path.push_str(numbers.one(TEXTS));
                }
            }
            let result = table.route(&Method::GET, &path, None);
            if result.as_ref().is_err_and(|violation| violation.rule == Rule::Path) {
                continue;
            }
            let Ok(expected) = naive(&templates, &path) else {
                undecided += 1;
                assert!(!overlaps.is_empty(), "{seed} {path}: {templates:?}");
                continue;
            };
            let expected = match expected {
                None => Err(Rule::UnknownPath),
                Some((_, _, true)) => Err(Rule::Segment),
                Some((index, values, false)) => Ok((index, values)),
            };
            matched += u32::from(expected.is_ok());
            split += u32::from(expected == Err(Rule::Segment));
            let result = result.map_err(|violation| violation.rule).map(|routed| {
                let value = |(from, to): &(usize, usize)| {
                    decode(&routed.path[*from..*to], Plus::Literal).unwrap().into_owned()
                };
                (routed.operation.0 as usize, routed.values.iter().map(value).collect())
            });
            assert_eq!(result, expected, "{seed} {path}: {templates:?}");
        }
    }
    assert!(matched > 1_500 && split > 150 && undecided > 10, "{matched} {split} {undecided}");
}
