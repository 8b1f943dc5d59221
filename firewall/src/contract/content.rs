//! Bodies: which media types are declared, and what a body of each must be.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::media_type::{MediaRange, MediaType};
use super::schema::{Direction, Mismatch, Schema};
use crate::json::{JsonError, JsonRules, with_tape};
use crate::violation::{Location, Rule, Violation};

/// What an operation takes as its body.
#[derive(Debug)]
pub struct BodyRule {
    pub(crate) required: bool,
    pub(crate) contents: Contents,
}

impl BodyRule {
    /// Whatever may come where nothing is declared, unread and of so many octets.
    pub(crate) fn unread(limit: usize) -> Self {
        let contents =
            Contents::new(Direction::Request, vec![Content::unread(Direction::Request, limit)]);
        Self { required: false, contents }
    }

    /// Whether a request without a body is refused.
    pub fn required(&self) -> bool {
        self.required
    }

    /// The declared content that a body of this `Content-Type` must be; the field must not have been
    /// given twice.
    ///
    /// # Errors
    ///
    /// [`Rule::BodyMediaType`], also for a missing field, since a body of unknown type is
    /// `application/octet-stream` (RFC 9110 section 8.3); [`Rule::BodyEncoding`] for a charset other
    /// than UTF-8.
    pub fn content(&self, content_type: Option<&HeaderValue>) -> Result<&Content, Violation> {
        self.contents.select(content_type)
    }
}

/// The contents of a `content` map, the most specific first.
#[derive(Debug)]
pub(crate) struct Contents {
    direction: Direction,
    contents: Vec<Content>,
}

impl Contents {
    pub(crate) fn new(direction: Direction, mut contents: Vec<Content>) -> Self {
        contents.sort_by_key(|content| content.range.rank());
        Self { direction, contents }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    pub(crate) fn select(&self, content_type: Option<&HeaderValue>) -> Result<&Content, Violation> {
        let (media_type, encoding) = match self.direction {
            Direction::Request => (Rule::BodyMediaType, Rule::BodyEncoding),
            Direction::Response => (Rule::ResponseMediaType, Rule::ResponseEncoding),
        };
        let text = content_type.map_or(Ok("application/octet-stream"), HeaderValue::to_str);
        let sent =
            text.ok().and_then(MediaType::parse).ok_or_else(|| Violation::new(media_type))?;
        let content = self
            .contents
            .iter()
            .find(|content| content.range.matches(&sent) && (sent.is_json() || content.is_opaque))
            .ok_or_else(|| Violation::new(media_type))?;
        if sent.is_foreign_charset() && !content.is_opaque {
            return Err(Violation::new(encoding));
        }
        Ok(content)
    }
}

/// One declared media type, and what a body of it must be.
pub struct Content {
    pub(crate) range: MediaRange,
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) limit: usize,
    pub(crate) rules: JsonRules,
    pub(crate) direction: Direction,
    /// Not to be looked into, and accepted so by the configuration.
    pub(crate) is_opaque: bool,
    /// To be passed on as it comes.
    pub(crate) streams: bool,
    /// Not declared, and let pass by the policy.
    pub(crate) is_undeclared: bool,
}

impl Content {
    /// Whatever the contract does not declare, where the policy lets that pass.
    pub(crate) fn unread(direction: Direction, limit: usize) -> Self {
        Self {
            range: MediaRange::any(),
            schema: None,
            limit,
            rules: JsonRules::strict(0),
            direction,
            is_opaque: true,
            streams: false,
            is_undeclared: true,
        }
    }

    /// The messages of a call of gRPC, which pass as they come.
    pub(crate) fn grpc(range: MediaRange, direction: Direction) -> Self {
        Self { range, streams: true, is_undeclared: false, ..Self::unread(direction, usize::MAX) }
    }

    /// Whether the octets are not looked into, so that any coding of them will do.
    pub fn is_opaque(&self) -> bool {
        self.is_opaque
    }

    /// Whether it is passed on as it comes: `x-firewall-stream`.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Whether no body is as good as one: it is not declared, but let pass.
    pub fn may_be_absent(&self) -> bool {
        self.is_undeclared
    }

    /// Octets that a body may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Checks a whole body. The only allocation without a violation is the parser's, and its buffers
    /// are reused.
    ///
    /// # Errors
    ///
    /// For a request's body [`Rule::BodyTooLarge`], [`Rule::BodyMalformed`],
    /// [`Rule::BodyDuplicateMember`], [`Rule::BodyTooDeep`] and [`Rule::BodySchema`]; for a response's
    /// [`Rule::ResponseTooLarge`], [`Rule::ResponseMalformed`] and [`Rule::ResponseSchema`].
    pub fn check(&self, body: &[u8]) -> Result<(), Violation> {
        let is_request = self.direction == Direction::Request;
        if body.len() > self.limit {
            let rule = if is_request { Rule::BodyTooLarge } else { Rule::ResponseTooLarge };
            return Err(Violation::new(rule));
        }
        if self.is_opaque {
            return Ok(());
        }
        let schema = self.schema.as_deref();
        let checked =
            with_tape(body, self.rules, |root| schema.map_or(Ok(()), |schema| schema.check(root)));
        match checked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Mismatch { pointer, keyword })) => {
                let rule = if is_request { Rule::BodySchema } else { Rule::ResponseSchema };
                Err(Violation { keyword, ..Violation::at(rule, Location::Body(pointer)) })
            }
            Err(error) => Err(Violation::new(match error {
                _ if !is_request => Rule::ResponseMalformed,
                JsonError::Malformed | JsonError::Imprecise => Rule::BodyMalformed,
                JsonError::TooDeep => Rule::BodyTooDeep,
                JsonError::DuplicateMember => Rule::BodyDuplicateMember,
            })),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("range", &self.range).finish_non_exhaustive()
    }
}
