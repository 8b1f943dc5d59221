//! `x-firewall-grpc`: an operation that is a method of gRPC.

use std::time::Duration;

use http::Method;

use super::super::content::Content;
use super::super::grpc::{GrpcRule, LONGEST, MESSAGE_OCTETS, is_media_type, is_method};
use super::super::media_type::MediaRange;
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::reader::At;
use super::{Compiler, PathItem};

const GRPC: &str = "x-firewall-grpc";

impl<'d> Compiler<'d> {
    /// How calls are bounded, where the operation is a method of gRPC.
    pub(super) fn grpc(
        &mut self,
        at: &At<'d>,
        method: &Method,
        item: &PathItem<'d>,
    ) -> Option<GrpcRule> {
        let field = at.get(GRPC)?;
        let mut rule = GrpcRule { message_octets: MESSAGE_OCTETS, longest: LONGEST };
        if field.value == false {
            return None;
        }
        if !field.value.is_object() && field.value != true {
            self.unexpected(&field, "true, or an object of `messageOctets` and `seconds`");
            return None;
        }
        for (name, member) in field.members() {
            let number = member.value.as_u64().and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| *number > 0);
            match (name, number) {
                ("messageOctets", Some(number)) => rule.message_octets = number,
                ("seconds", Some(number)) => rule.longest = Duration::from_secs(number.into()),
                ("messageOctets" | "seconds", None) => {
                    self.unexpected(&member, "a number from 1 to 4294967295");
                }
                _ => self.unexpected(&member, "`messageOctets` or `seconds`"),
            }
        }
        let has_http2 = self.options.http2_upstream != Some(false);
        let mut tell = |message: &str| self.problem(&field, Problem::Grpc(message.into()));
        if *method != Method::POST {
            tell("methods of gRPC are called by POST");
        }
        if !is_method(&item.template) {
            tell("the path of a method of gRPC is `/package.Service/Method`");
        }
        if !has_http2 {
            tell("gRPC needs HTTP/2 to the upstream: `protocol = \"http2\"` in `[api.upstream]`");
        }
        Some(rule)
    }

    /// Messages in one format, which pass as a stream and are not looked into.
    pub(super) fn grpc_content(
        &mut self,
        name: &str,
        range: MediaRange,
        media: &At<'d>,
        direction: Direction,
    ) -> Option<Content> {
        if !is_media_type(name) {
            let message = format!("`{name}`: a method of gRPC takes and gives `application/grpc`");
            self.problem(media, Problem::Grpc(message.into()));
            return None;
        }
        for name in ["schema", "itemSchema", "encoding", "x-firewall-stream"] {
            if let Some(field) = media.get(name) {
                let what = format!("`{name}`: messages of gRPC are not looked into, and it");
                self.problem(&field, Problem::Ineffective(what.into()));
            }
        }
        Some(Content::grpc(range, direction))
    }
}

/// Without a format, that of protobuf is meant.
pub(super) fn grpc_formats(contents: &mut Vec<Content>) {
    let named = |name| MediaRange::parse(name);
    let [plain, proto] = ["application/grpc", "application/grpc+proto"].map(named);
    let (Some(plain), Some(proto)) = (plain, proto) else { return };
    let of = |range: &MediaRange| contents.iter().find(|content| content.range == *range);
    let missing = match (of(&plain), of(&proto)) {
        (Some(content), None) => Content::grpc(proto, content.direction),
        (None, Some(content)) => Content::grpc(plain, content.direction),
        _ => return,
    };
    contents.push(missing);
}
