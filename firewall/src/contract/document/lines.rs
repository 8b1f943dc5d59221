//! Where the parts of a document stand: a second walk, made only when there is a problem to report.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::unescape;

/// The lines of a document's parts: of the name for a member, of the value for an element.
pub(super) enum Located {
    Members(Vec<(String, u32, Located)>),
    Elements(Vec<(u32, Located)>),
    Scalar,
}

impl Located {
    /// The line of the deepest part that lies on the way to `pointer`.
    pub(super) fn line(&self, pointer: &str) -> Option<u32> {
        let mut line = Some(1);
        let mut at = self;
        for token in pointer.split('/').skip(1) {
            let token = unescape(token);
            let found = match at {
                Self::Members(members) => members
                    .iter()
                    .find(|(name, ..)| *name == token)
                    .map(|(_, line, value)| (*line, value)),
                Self::Elements(elements) => token
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| elements.get(index))
                    .map(|(line, value)| (*line, value)),
                Self::Scalar => None,
            };
            let Some((found, value)) = found else { break };
            line = Some(found).filter(|line| *line > 0);
            at = value;
        }
        line
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Located;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_str<E>(self, _: &str) -> Result<Located, E> {
                Ok(Located::Scalar)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Located, A::Error> {
                let mut elements = Vec::new();
                while let Some(item) = items.next_element::<Spanned<Located>>()? {
                    elements.push((line(&item), item.value));
                }
                Ok(Located::Elements(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Located, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    let line = line(&name);
                    members.push((name.value, line, map.next_value()?));
                }
                Ok(Located::Members(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn line<T>(spanned: &Spanned<T>) -> u32 {
    u32::try_from(spanned.referenced.line()).unwrap_or(0)
}

impl Located {
    /// The lines of a JSON text that has been read already; none where it is not JSON after all.
    pub(super) fn json(text: &str) -> Option<Self> {
        Scanner { text, at: 0, line: 1 }.value()
    }
}

/// A walk through JSON that looks at nothing but names and structure.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl Scanner<'_> {
    fn value(&mut self) -> Option<Located> {
        match self.peek()? {
            b'{' => {
                let mut members = Vec::new();
                self.at += 1;
                while self.peek()? != b'}' {
                    let line = self.line;
                    let name = self.string()?;
                    self.skip(b':')?;
                    members.push((name, line, self.value()?));
                    self.skip_if(b',');
                }
                self.at += 1;
                Some(Located::Members(members))
            }
            b'[' => {
                let mut elements = Vec::new();
                self.at += 1;
                while self.peek()? != b']' {
                    let line = self.line;
                    elements.push((line, self.value()?));
                    self.skip_if(b',');
                }
                self.at += 1;
                Some(Located::Elements(elements))
            }
            b'"' => self.string().map(|_| Located::Scalar),
            _ => {
                let rest = self.text.get(self.at..)?;
                let length = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']);
                let length = length.unwrap_or(rest.len());
                self.at += length;
                (length > 0).then_some(Located::Scalar)
            }
        }
    }

    /// The next octet that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let octet = *self.text.as_bytes().get(self.at)?;
            match octet {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(octet),
            }
            self.at += 1;
        }
    }

    fn skip(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn skip_if(&mut self, octet: u8) {
        if self.peek() == Some(octet) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.peek().filter(|octet| *octet == b'"')?;
        let start = self.at;
        loop {
            self.at += 1;
            match self.text.as_bytes().get(self.at)? {
                b'\\' => self.at += 1,
                b'"' => break,
                _ => {}
            }
        }
        self.at += 1;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }
}
