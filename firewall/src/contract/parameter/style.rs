//! `Style`: how a text is split into the parts of a list or an object (RFC 6570, OpenAPI "Style
//! Values"). Parts are split before they are decoded, so that an escaped delimiter is data.

use std::borrow::Cow;

use super::{Encoding, Fault};

/// One of the styles of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    /// From 3.2 on.
    Cookie,
}

impl Style {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "label" => Self::Label,
            "matrix" => Self::Matrix,
            "form" => Self::Form,
            "spaceDelimited" => Self::SpaceDelimited,
            "pipeDelimited" => Self::PipeDelimited,
            "deepObject" => Self::DeepObject,
            "cookie" => Self::Cookie,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Label => "label",
            Self::Matrix => "matrix",
            Self::Form => "form",
            Self::SpaceDelimited => "spaceDelimited",
            Self::PipeDelimited => "pipeDelimited",
            Self::DeepObject => "deepObject",
            Self::Cookie => "cookie",
        }
    }

    /// What `explode` is where a document does not say.
    pub(crate) fn explodes(self) -> bool {
        matches!(self, Self::Form | Self::Cookie)
    }
}

/// A style, and whether it is exploded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) style: Style,
    pub(crate) explode: bool,
}

impl Split {
    /// What stands behind the style's prefix, where the value is one text: the scalar, or the parts of
    /// what is not exploded.
    pub(crate) fn value<'t>(self, text: &'t str, name: &str) -> Result<&'t str, Fault> {
        match self.style {
            Style::Label => text.strip_prefix('.').ok_or(Fault::Type),
            Style::Matrix => named(text.strip_prefix(';').ok_or(Fault::Type)?, name),
            _ => Ok(text),
        }
    }

    /// The items of a list within one text.
    pub(crate) fn items<'t>(
        self,
        text: &'t str,
        name: &'t str,
    ) -> Result<impl Iterator<Item = Result<&'t str, Fault>>, Fault> {
        let names_each = self.explode && self.style == Style::Matrix;
        let parts = if names_each {
            Parts::new(text.strip_prefix(';').ok_or(Fault::Type)?, Delimiter::Octet(b';'))
        } else {
            Parts::new(self.value(text, name)?, self.delimiter())
        };
        Ok(parts.map(move |part| if names_each { named(part, name) } else { Ok(part) }))
    }

    /// Adds the members of an object within one text, decoded.
    pub(crate) fn members<'t>(
        self,
        text: &'t str,
        name: &str,
        encoding: Encoding,
        members: &mut Vec<(Cow<'t, str>, Cow<'t, str>)>,
    ) -> Result<(), Fault> {
        let text = if self.explode && self.style == Style::Matrix {
            text.strip_prefix(';').ok_or(Fault::Type)?
        } else {
            self.value(text, name)?
        };
        let mut parts = Parts::new(text, self.delimiter());
        while let Some(part) = parts.next() {
            let (name, value) = if !self.explode {
                (part, parts.next().ok_or(Fault::Type)?)
            } else if self.style == Style::Matrix {
                // An empty value leaves out the equals sign (RFC 6570 section 3.2.7).
                part.split_once('=').unwrap_or((part, ""))
            } else {
                part.split_once('=').ok_or(Fault::Type)?
            };
            members.push((encoding.decode(name)?, encoding.decode(value)?));
        }
        Ok(())
    }

    fn delimiter(self) -> Delimiter {
        match self.style {
            Style::Label if self.explode => Delimiter::Octet(b'.'),
            Style::Matrix if self.explode => Delimiter::Octet(b';'),
            Style::SpaceDelimited => Delimiter::Space,
            Style::PipeDelimited => Delimiter::Pipe,
            _ => Delimiter::Octet(b','),
        }
    }
}

/// The value of `name=value`; empty for the name alone (RFC 6570 section 3.2.7).
fn named<'t>(part: &'t str, name: &str) -> Result<&'t str, Fault> {
    let (sent, value) = part.split_once('=').unwrap_or((part, ""));
    let sent = super::decode(sent, super::Plus::Literal).ok_or(Fault::Encoding)?;
    if *sent == *name { Ok(value) } else { Err(Fault::Type) }
}

/// What stands between two parts.
#[derive(Clone, Copy)]
enum Delimiter {
    Octet(u8),
    /// In a query, where it is always escaped.
    Space,
    /// Escaped, or left as it is by many clients.
    Pipe,
}

impl Delimiter {
    /// The octets that the delimiter takes at the start of `rest`; none where there is none.
    fn length(self, rest: &[u8]) -> Option<usize> {
        match (self, rest) {
            (Self::Octet(octet), [first, ..]) if *first == octet => Some(1),
            (Self::Space, [b'+', ..]) | (Self::Pipe, [b'|', ..]) => Some(1),
            (Self::Space, [b'%', b'2', b'0', ..]) | (Self::Pipe, [b'%', b'7', b'C' | b'c', ..]) => {
                Some(3)
            }
            _ => None,
        }
    }
}

/// The parts of a text between delimiters: one more than there are of them.
struct Parts<'t> {
    rest: Option<&'t str>,
    delimiter: Delimiter,
}

impl<'t> Parts<'t> {
    fn new(text: &'t str, delimiter: Delimiter) -> Self {
        Self { rest: Some(text), delimiter }
    }
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let rest = self.rest.take()?;
        let octets = rest.as_bytes();
        let found =
            (0..octets.len()).find_map(|at| Some((at, self.delimiter.length(octets.get(at..)?)?)));
        let Some((at, length)) = found else { return Some(rest) };
        self.rest = rest.get(at + length..);
        rest.get(..at)
    }
}
