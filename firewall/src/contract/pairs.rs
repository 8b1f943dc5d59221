//! Named pairs, of a query or of cookies: to which parameter each belongs, and what several of them
//! make together.

use std::borrow::Cow;
use std::ops::Range;

use super::parameter::shape::ObjectShape;
use super::parameter::{Fault, ParameterRule, Reading, Spread};

/// Stands for the rule of a name that has none.
const NO_RULE: usize = usize::MAX;

/// The parameters of one place, found by name.
#[derive(Default)]
pub(crate) struct PairRules {
    rules: Vec<ParameterRule>,
    /// Every declared name, sorted.
    names: Vec<(Box<str>, Owner)>,
    /// The names `p` of objects whose undeclared members may stand as `p[member]`, sorted.
    brackets: Vec<(Box<str>, usize)>,
    /// The exploded object that takes every name which is no other parameter's.
    rest: Option<usize>,
}

/// The rule that a name belongs to, and where the member's name stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) rule: usize,
    member: Range<usize>,
}

/// Why a rule cannot stand beside those that are there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Two parameters share this name.
    Name(Box<str>),
    /// Two exploded objects take the names that no parameter has.
    Rest,
    /// One of them is the query whole.
    Whole,
}

impl PairRules {
    pub(crate) fn push(&mut self, rule: ParameterRule) -> Result<(), Conflict> {
        let index = self.rules.len();
        let object = match &rule.reading {
            Reading::Styled(_, shape) => shape.object.as_ref(),
            _ => None,
        };
        match rule.spread {
            Spread::Name => {
                let member = 0..rule.name.len();
                self.name(Box::from(&*rule.name), Owner { rule: index, member })?;
            }
            Spread::Members => {
                for (name, _) in object.iter().flat_map(|object| &object.properties) {
                    self.name(name.clone(), Owner { rule: index, member: 0..name.len() })?;
                }
                if object.is_none_or(|object| object.is_open) && self.rest.replace(index).is_some()
                {
                    return Err(Conflict::Rest);
                }
            }
            Spread::Brackets => {
                for (name, _) in object.iter().flat_map(|object| &object.properties) {
                    let start = rule.name.len() + 1;
                    let member = start..start + name.len();
                    let name = format!("{}[{name}]", rule.name).into_boxed_str();
                    self.name(name, Owner { rule: index, member })?;
                }
                let place = self.brackets.binary_search_by(|(known, _)| (**known).cmp(&rule.name));
                if let Err(place) = place {
                    self.brackets.insert(place, (Box::from(&*rule.name), index));
                }
            }
        }
        self.rules.push(rule);
        Ok(())
    }

    fn name(&mut self, name: Box<str>, owner: Owner) -> Result<(), Conflict> {
        match self.names.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(_) => Err(Conflict::Name(name)),
            Err(place) => {
                self.names.insert(place, (name, owner));
                Ok(())
            }
        }
    }

    /// Knows a name whose value is checked elsewhere.
    pub(crate) fn allow(&mut self, name: &str) {
        let owner = Owner { rule: NO_RULE, member: 0..name.len() };
        // A parameter of that name is checked as it is declared.
        self.name(name.into(), owner).unwrap_or_default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(crate) fn rule(&self, index: usize) -> Option<&ParameterRule> {
        self.rules.get(index)
    }

    /// The parameter that a decoded name belongs to.
    pub(crate) fn owner(&self, name: &str) -> Option<Owner> {
        if let Ok(place) = self.names.binary_search_by(|(known, _)| (**known).cmp(name)) {
            return self.names.get(place).map(|(_, owner)| owner.clone());
        }
        let rest = || {
            // A member of the object to us alone is none.
            let rule = self.rest.filter(|_| !self.is_alias(name, true))?;
            Some(Owner { rule, member: 0..name.len() })
        };
        self.bracketed(name).or_else(rest)
    }

    /// `p[member]`, of one level: nothing else is defined.
    fn bracketed(&self, name: &str) -> Option<Owner> {
        if self.brackets.is_empty() {
            return None;
        }
        // A parameter's own name may hold brackets.
        name.match_indices('[').find_map(|(open, _)| {
            let base = name.get(..open)?;
            let place = self.brackets.binary_search_by(|(known, _)| (**known).cmp(base)).ok()?;
            let rule = self.brackets.get(place)?.1;
            let member = name.get(open + 1..)?.strip_suffix(']')?;
            let is_unchecked = self.rules.get(rule).is_some_and(ParameterRule::is_unchecked);
            let is_plain = !member.is_empty() && !member.contains(['[', ']']);
            let member = open + 1..open + 1 + member.len();
            (is_plain || is_unchecked).then_some(Owner { rule, member })
        })
    }

    /// Whether many readers take an undeclared name for that of a declared parameter: with brackets
    /// behind it, or without those that it needs; with what PHP makes an underscore of; or, where
    /// `ignores_case`, in another case.
    pub(crate) fn is_alias(&self, name: &str, ignores_case: bool) -> bool {
        let names = self.names.iter().map(|(known, _)| known);
        let mut names = names.chain(self.brackets.iter().map(|(known, _)| known));
        names.any(|known| reads_as(stem(name), stem(known), ignores_case))
    }

    pub(crate) fn sent<'t>(&self) -> Sent<'_, 't> {
        Sent { rules: self, seen: 0, seen_beyond: Vec::new(), gathered: Vec::new() }
    }
}

/// What has been sent of some parameters. Pairs that stand for themselves are checked as they come,
/// without an allocation; the others when all are known.
pub(crate) struct Sent<'r, 't> {
    rules: &'r PairRules,
    /// The rules below 128 that have a pair.
    seen: u128,
    /// The others.
    seen_beyond: Vec<usize>,
    /// At most one for every two octets of the target or the head, which have their limits.
    gathered: Vec<(usize, (Cow<'t, str>, &'t str))>,
}

impl<'t> Sent<'_, 't> {
    /// Takes a pair, whose name has this owner.
    pub(crate) fn take(
        &mut self,
        owner: &Owner,
        name: Cow<'t, str>,
        value: &'t str,
    ) -> Result<(), Fault> {
        let Some(rule) = self.rules.rule(owner.rule) else { return Ok(()) };
        let is_repeated = self.see(owner.rule);
        if rule.is_gathered() {
            let name = match name {
                Cow::Borrowed(name) => {
                    Cow::Borrowed(name.get(owner.member.clone()).unwrap_or_default())
                }
                Cow::Owned(name) => {
                    Cow::Owned(name.get(owner.member.clone()).unwrap_or_default().to_owned())
                }
            };
            self.gathered.push((owner.rule, (name, value)));
            return Ok(());
        }
        if is_repeated && !rule.may_repeat && !rule.is_unchecked() {
            return Err(Fault::Repeated);
        }
        rule.check(value)
    }

    /// Notes that a rule has a pair; tells whether it had one.
    fn see(&mut self, rule: usize) -> bool {
        match u32::try_from(rule).ok().and_then(|rule| 1_u128.checked_shl(rule)) {
            Some(bit) => {
                let was_seen = self.seen & bit != 0;
                self.seen |= bit;
                was_seen
            }
            None if self.seen_beyond.contains(&rule) => true,
            None => {
                self.seen_beyond.push(rule);
                false
            }
        }
    }

    fn is_seen(&self, rule: usize) -> bool {
        match u32::try_from(rule).ok().and_then(|rule| 1_u128.checked_shl(rule)) {
            Some(bit) => self.seen & bit != 0,
            None => self.seen_beyond.contains(&rule),
        }
    }

    /// Checks what is missing, and what several pairs make.
    ///
    /// # Errors
    ///
    /// The rule that is broken, and how.
    pub(crate) fn finish(mut self) -> Result<(), (usize, Fault)> {
        for (index, rule) in self.rules.rules.iter().enumerate() {
            if rule.required && !self.is_seen(index) {
                return Err((index, Fault::Missing));
            }
        }
        self.gathered.sort_by_key(|(rule, _)| *rule);
        let mut pairs = Vec::new();
        let mut gathered = self.gathered.into_iter().peekable();
        while let Some((index, pair)) = gathered.next() {
            pairs.push(pair);
            if gathered.peek().is_some_and(|(next, _)| *next == index) {
                continue;
            }
            if let Some(rule) = self.rules.rule(index) {
                rule.check_pairs(&pairs).map_err(|fault| (index, fault))?;
            }
            pairs.clear();
        }
        Ok(())
    }
}

/// A name without the brackets behind it.
fn stem(name: &str) -> &str {
    name.split_once('[').filter(|(_, rest)| rest.contains(']')).map_or(name, |(stem, _)| stem)
}

/// Whether two names are one to some reader. PHP drops spaces before a name, and makes underscores
/// of spaces, full stops and an opening bracket that is not closed.
fn reads_as(name: &str, known: &str, ignores_case: bool) -> bool {
    let plain = |octet: u8| match octet {
        b' ' | b'.' | b'[' => b'_',
        octet if ignores_case => octet.to_ascii_lowercase(),
        octet => octet,
    };
    let (name, known) = (name.trim_start_matches(' '), known.trim_start_matches(' '));
    name.len() == known.len() && name.bytes().map(plain).eq(known.bytes().map(plain))
}

/// A property that the brackets of `deepObject` cannot name.
pub(crate) fn unnameable(object: &ObjectShape) -> Option<&str> {
    let mut names = object.properties.iter().map(|(name, _)| &**name);
    names.find(|name| name.is_empty() || name.contains(['[', ']']))
}
