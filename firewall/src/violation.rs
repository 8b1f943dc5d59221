//! What can be wrong with a message, and where: the vocabulary of every verdict.
//!
//! A [`Violation`] names the rule and the place. It cannot hold the value that was sent, so no log
//! line and no answer can leak one.

use std::fmt;
use std::sync::Arc;

/// The part of the pipeline that found a violation, in the order of the request path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Framing,
    Client,
    Ban,
    Route,
    Authentication,
    Parameters,
    Body,
    Upgrade,
    Response,
}

/// What a source did, as the ban ledger weighs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A message that could be read in two ways: smuggling.
    Framing,
    /// A path or method that the contract does not know: scanning.
    Scan,
    /// A credential that no client of its scheme would write.
    Credential,
    /// A parameter against its rule.
    Parameter,
    /// A body against its rule.
    Body,
}

/// What of an upstream's insides was in an answer: an exception that nobody caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    JavaStackTrace,
    PythonTraceback,
    DotNetStackTrace,
    PhpError,
    RubyBacktrace,
    NodeStackTrace,
    GoPanic,
    RustPanic,
    MySqlError,
    PostgreSqlError,
    OracleError,
    SqlServerError,
    SqliteError,
    MongoDbError,
    /// Of a driver that does not say which.
    SqlError,
    /// A framework's page for its developers.
    DebugPage,
    /// HTML where the contract declares something else.
    HtmlPage,
}

impl Exception {
    /// The stable identifier, for logs and metrics.
    pub const fn id(self) -> &'static str {
        match self {
            Self::JavaStackTrace => "java-stack-trace",
            Self::PythonTraceback => "python-traceback",
            Self::DotNetStackTrace => "dotnet-stack-trace",
            Self::PhpError => "php-error",
            Self::RubyBacktrace => "ruby-backtrace",
            Self::NodeStackTrace => "node-stack-trace",
            Self::GoPanic => "go-panic",
            Self::RustPanic => "rust-panic",
            Self::MySqlError => "mysql-error",
            Self::PostgreSqlError => "postgresql-error",
            Self::OracleError => "oracle-error",
            Self::SqlServerError => "sql-server-error",
            Self::SqliteError => "sqlite-error",
            Self::MongoDbError => "mongodb-error",
            Self::SqlError => "sql-error",
            Self::DebugPage => "debug-page",
            Self::HtmlPage => "html-page",
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $stage:ident, $status:literal, $offence:expr, $title:literal;)*) => {
        /// One thing that a message must not do. Its identifier is stable: operators filter by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// Every rule, in the order of the pipeline.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable identifier: stage, full stop, what is wrong.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }

            /// The HTTP status of the refusal (RFC 9110 section 15).
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What the client did, where it is the client's doing; none for the upstream's faults.
            pub const fn offence(self) -> Option<Offence> {
                match self { $(Self::$name => $offence,)* }
            }

            /// One sentence for the refused client; says nothing of the values it sent.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

rules! {
    RequestLine = "framing.request-line", Framing, 400, Some(Offence::Framing), "The request line is malformed";
    Version = "framing.version", Framing, 505, Some(Offence::Framing), "The HTTP version is not supported";
    BareLineFeed = "framing.bare-lf", Framing, 400, Some(Offence::Framing), "A line does not end in CR LF";
    BareCarriageReturn = "framing.bare-cr", Framing, 400, Some(Offence::Framing), "A line holds a CR that ends nothing";
    FieldLine = "framing.field-line", Framing, 400, Some(Offence::Framing), "A field line is malformed";
    LengthConflict = "framing.length-conflict", Framing, 400, Some(Offence::Framing), "Content-Length and Transfer-Encoding are both given";
    ContentLength = "framing.content-length", Framing, 400, Some(Offence::Framing), "Content-Length is repeated or not a decimal number";
    TransferEncoding = "framing.transfer-encoding", Framing, 400, Some(Offence::Framing), "Transfer-Encoding is not exactly chunked";
    Chunk = "framing.chunk", Framing, 400, Some(Offence::Framing), "The chunked framing is malformed";
    Trailer = "framing.trailer", Framing, 400, Some(Offence::Framing), "Trailer fields are not accepted";
    Host = "framing.host", Framing, 400, Some(Offence::Framing), "Exactly one valid Host field is required";
    Target = "framing.target", Framing, 400, Some(Offence::Framing), "The request target is not in origin form or is malformed";
    HeadTooLarge = "framing.head-too-large", Framing, 431, Some(Offence::Framing), "The request head exceeds its limit";
    TargetTooLong = "framing.target-too-long", Framing, 414, Some(Offence::Framing), "The request target exceeds its limit";
    Expectation = "framing.expectation", Framing, 417, Some(Offence::Framing), "The expectation is not supported";
    /// Some honest clients offer HTTP/2 over plain text with each first request.
    Upgrade = "framing.upgrade", Framing, 400, None, "The connection cannot be upgraded";
    /// The head did not arrive in time; slowness is no proof of malice.
    HeadTimeout = "framing.head-timeout", Framing, 408, None, "The request head did not arrive in time";
    /// Streams of HTTP/2 are as dear as connections; honest clients share an address.
    RequestsAtOnce = "framing.requests-at-once", Framing, 429, None, "Too many requests are under way";
    /// One connection's, where the limit above is a source's; a client may open some before it knows.
    Http2Streams = "framing.http2-streams", Framing, 429, None, "Too many streams are open";
    /// What the h2 crate answers with an error: fields, frames or windows against RFC 9113.
    Http2Malformed = "framing.http2-malformed", Framing, 400, Some(Offence::Framing), "The HTTP/2 frames or fields are malformed";
    /// Rapid reset (CVE-2023-44487).
    Http2Resets = "framing.http2-resets", Framing, 400, Some(Offence::Framing), "Too many streams were taken back";
    /// Errors that have us reset streams (CVE-2025-8671).
    Http2Errors = "framing.http2-errors", Framing, 400, Some(Offence::Framing), "Too many streams failed";
    /// CVE-2024-27316.
    Http2Continuations = "framing.http2-continuations", Framing, 431, Some(Offence::Framing), "The request head comes in too many frames";
    /// Floods of frames that bring nothing (CVE-2019-9511 to 9518).
    Http2Frames = "framing.http2-frames", Framing, 400, Some(Offence::Framing), "Too many frames bring nothing";
    Forwarded = "client.forwarded", Client, 400, None, "The forwarding fields are malformed";
    /// Browsers use a connection for every name of its certificate, until they are told so.
    ServerName = "client.server-name", Client, 421, None, "The connection was made for another host";
    ClientCertificate = "client.certificate", Client, 403, None, "A client certificate is required";
    /// It was when the connection was made: revoked since, or over, or now demanded. The connection ends.
    ClientCertificateOver = "client.certificate-over", Client, 421, None, "The connection's client certificate is no longer accepted";
    Banned = "ban.source", Ban, 403, None, "The source is banned";
    /// A feed lists the source, which is somebody else's word and no offence against us.
    Listed = "ban.feed", Ban, 403, None, "The source is on a block list";
    Path = "route.path", Route, 400, Some(Offence::Framing), "The path holds empty, dot or wrongly encoded segments";
    UnknownPath = "route.unknown-path", Route, 404, Some(Offence::Scan), "The path is not part of the contract";
    Method = "route.method", Route, 405, Some(Offence::Scan), "The method is not part of the contract for this path";
    /// Clients that were written in time may go on asking for it.
    Deprecated = "route.deprecated", Route, 410, None, "The operation is deprecated and no longer served";
    /// Whether it hides anything depends on the upstream's reading, which an honest client does not know.
    /// Whoever called it can speak HTTP/2, or could not have.
    GrpcVersion = "route.grpc-version", Route, 505, None, "Methods of gRPC are called by HTTP/2";
    Segment = "route.segment", Route, 400, None, "A segment of the path can be read in several ways";
    /// Names that point here by mistake, and checks by address, are no attacks.
    Misdirected = "route.host", Route, 421, None, "The host is not one that is served here";
    /// Who has not logged in yet, or no longer is, is no attacker.
    CredentialsMissing = "auth.missing", Authentication, 401, None, "Credentials are required";
    CredentialsMalformed = "auth.malformed", Authentication, 401, Some(Offence::Credential), "The credentials are malformed";
    ParameterMissing = "parameter.missing", Parameters, 400, Some(Offence::Parameter), "A required parameter is missing";
    ParameterUnknown = "parameter.unknown", Parameters, 400, Some(Offence::Parameter), "A parameter is not part of the contract";
    ParameterRepeated = "parameter.repeated", Parameters, 400, Some(Offence::Parameter), "A parameter is repeated";
    ParameterEncoding = "parameter.encoding", Parameters, 400, Some(Offence::Parameter), "A parameter is wrongly encoded";
    ParameterType = "parameter.type", Parameters, 400, Some(Offence::Parameter), "A parameter is not of its declared type";
    ParameterMalformed = "parameter.malformed", Parameters, 400, Some(Offence::Parameter), "A parameter is not well-formed JSON";
    ParameterSchema = "parameter.schema", Parameters, 400, Some(Offence::Parameter), "A parameter does not match its schema";
    /// A header field by which some upstreams take another target, method or field than was checked.
    ParameterOverride = "parameter.override", Parameters, 400, Some(Offence::Parameter), "A header field stands for another";
    /// A proxy that believed it would take the field from the request, after it was checked.
    ParameterConnection = "parameter.connection", Parameters, 400, Some(Offence::Framing), "Connection names a field of the contract";
    /// A proxy between that does not know gRPC takes the field away.
    GrpcTrailers = "parameter.grpc-te", Parameters, 400, None, "A call of gRPC accepts trailers";
    GrpcTimeout = "parameter.grpc-timeout", Parameters, 400, Some(Offence::Parameter), "The timeout of the call is malformed";
    BodyMissing = "body.missing", Body, 400, Some(Offence::Body), "A body is required";
    BodyUnexpected = "body.unexpected", Body, 400, Some(Offence::Body), "The operation takes no body";
    BodyMediaType = "body.media-type", Body, 415, Some(Offence::Body), "The media type is not part of the contract";
    BodyEncoding = "body.encoding", Body, 415, Some(Offence::Body), "The content encoding or charset is not accepted";
    BodyTooLarge = "body.too-large", Body, 413, Some(Offence::Body), "The body exceeds its limit";
    BodyMalformed = "body.malformed", Body, 400, Some(Offence::Body), "The body is not well-formed";
    BodyDuplicateMember = "body.duplicate-member", Body, 400, Some(Offence::Body), "An object names a member twice";
    BodyTooDeep = "body.too-deep", Body, 400, Some(Offence::Body), "The body is nested too deeply";
    BodySchema = "body.schema", Body, 400, Some(Offence::Body), "The body does not match its schema";
    /// The body ended early or did not arrive in time.
    BodyIncomplete = "body.incomplete", Body, 408, None, "The body did not arrive whole and in time";
    /// What is offered is a WebSocket, but not as RFC 6455 section 4.1 has it.
    Handshake = "upgrade.handshake", Upgrade, 400, Some(Offence::Framing), "The WebSocket handshake is malformed";
    /// The answer says which version there is, so that the client may ask again.
    WebSocketVersion = "upgrade.version", Upgrade, 426, None, "The version of the WebSocket protocol is not supported";
    UpgradeRequired = "upgrade.required", Upgrade, 426, None, "The operation is reached by an upgrade alone";
    /// It is the page's doing (cross-site WebSocket hijacking), and whoever looks at it is the victim.
    UpgradeOrigin = "upgrade.origin", Upgrade, 403, None, "The origin may not open a connection here";
    Tunnels = "upgrade.tunnels", Upgrade, 503, None, "Too many upgraded connections are open";
    /// Honest clients share an address.
    TunnelsOfSource = "upgrade.tunnels-of-source", Upgrade, 429, None, "Too many upgraded connections are open from this address";
    Frame = "upgrade.frame", Upgrade, 400, Some(Offence::Framing), "A WebSocket frame is malformed";
    MessageTooLarge = "upgrade.message-too-large", Upgrade, 413, Some(Offence::Body), "A WebSocket message exceeds its limit";
    GrpcFraming = "body.grpc-framing", Body, 400, Some(Offence::Body), "A message of gRPC is cut off or wrongly framed";
    GrpcMessageTooLarge = "body.grpc-message-too-large", Body, 413, Some(Offence::Body), "A message of gRPC exceeds its limit";
    ResponseStatus = "response.status", Response, 502, None, "The upstream's status is not part of the contract";
    /// What a part of a representation is part of cannot be checked.
    ResponsePartial = "response.partial", Response, 502, None, "The upstream sent part of a representation";
    ResponseHeader = "response.header", Response, 502, None, "The upstream's header fields are against the contract";
    ResponseMediaType = "response.media-type", Response, 502, None, "The upstream's media type is not part of the contract";
    ResponseEncoding = "response.encoding", Response, 502, None, "The upstream's content encoding cannot be checked";
    ResponseUnexpectedBody = "response.unexpected-body", Response, 502, None, "The upstream sent a body that the contract does not declare";
    ResponseMissingBody = "response.missing-body", Response, 502, None, "The upstream sent no body where the contract declares one";
    ResponseTooLarge = "response.too-large", Response, 502, None, "The upstream's body exceeds its limit";
    ResponseMalformed = "response.malformed", Response, 502, None, "The upstream's body is not well-formed";
    ResponseSchema = "response.schema", Response, 502, None, "The upstream's body does not match its schema";
    ResponseFrame = "response.frame", Response, 502, None, "The upstream's WebSocket frame is malformed";
    ResponseGrpcFraming = "response.grpc-framing", Response, 502, None, "A message of the upstream's is cut off or wrongly framed";
    ResponseGrpcMessageTooLarge = "response.grpc-message-too-large", Response, 502, None, "A message of the upstream's exceeds its limit";
    ResponseGrpcTrailers = "response.grpc-trailers", Response, 502, None, "The upstream did not end the call as gRPC ends one";
    /// The contract would let it pass.
    ResponseException = "response.exception", Response, 502, None, "The upstream failed";
}

impl Rule {
    /// The status of gRPC that stands for the refusal (grpc/grpc doc/statuscodes.md).
    pub const fn grpc_status(self) -> u8 {
        grpc_status(self.status())
    }
}

/// The status of gRPC that tells what the status of HTTP would: whose fault it is, and whether to ask
/// again. gRPC's own table (doc/http-grpc-status-mapping.md) is for answers of who does not know gRPC, and
/// makes of most that it is unknown what was wrong.
pub const fn grpc_status(status: u16) -> u8 {
    match status {
        400 | 415 | 417 => 3,              // INVALID_ARGUMENT
        401 => 16,                         // UNAUTHENTICATED
        403 => 7,                          // PERMISSION_DENIED
        404 | 405 | 410 | 426 | 505 => 12, // UNIMPLEMENTED
        408 | 504 => 4,                    // DEADLINE_EXCEEDED
        413 | 414 | 429 | 431 => 8,        // RESOURCE_EXHAUSTED
        421 | 503 => 14,                   // UNAVAILABLE
        502 => 13,                         // INTERNAL
        _ => 2,                            // UNKNOWN
    }
}

/// The place of a violation. Names are the contract's own, never the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The message as a whole: its framing, its target, its status.
    Message,
    Path(Arc<str>),
    Query(Arc<str>),
    Header(Arc<str>),
    Cookie(Arc<str>),
    /// A JSON Pointer (RFC 6901) into the body; members that the contract does not declare are
    /// written `*`.
    Body(Box<str>),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => Ok(()),
            Self::Path(name) => write!(f, "path:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
        }
    }
}

/// What was wrong, and where. Never the value that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub at: Location,
    /// The JSON Schema keyword that failed, for the schema rules.
    pub keyword: Option<Box<str>>,
    /// The value of `Allow`, for a 405 (RFC 9110 section 15.5.6).
    pub allow: Option<Arc<str>>,
    /// The value of `WWW-Authenticate`, for a 401 (RFC 9110 section 11.6.1).
    pub challenge: Option<Arc<str>>,
    /// What the refused answer was, where that is known. For the operator, never for the client.
    pub exception: Option<Exception>,
    /// The feed that lists the source. For the operator, never for the client.
    pub feed: Option<Arc<str>>,
}

impl Violation {
    pub fn new(rule: Rule) -> Self {
        Self::at(rule, Location::Message)
    }

    pub fn at(rule: Rule, at: Location) -> Self {
        Self { rule, at, keyword: None, allow: None, challenge: None, exception: None, feed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_named_by_stage() {
        let mut seen = std::collections::HashSet::new();
        for rule in Rule::ALL {
            assert!(seen.insert(rule.id()), "{} is given twice", rule.id());
            let stage = match rule.stage() {
                Stage::Framing => "framing.",
                Stage::Client => "client.",
                Stage::Ban => "ban.",
                Stage::Route => "route.",
                Stage::Authentication => "auth.",
                Stage::Parameters => "parameter.",
                Stage::Body => "body.",
                Stage::Upgrade => "upgrade.",
                Stage::Response => "response.",
            };
            assert!(rule.id().starts_with(stage), "{} is not of its stage", rule.id());
        }
    }

    #[test]
    fn every_refusal_has_a_status_of_grpc_and_a_title_that_needs_no_escapes() {
        for rule in Rule::ALL {
            assert_ne!(rule.grpc_status(), 2, "{}", rule.id());
            let is_plain = |octet: u8| (b' '..=b'~').contains(&octet) && octet != b'%';
            assert!(rule.title().bytes().all(is_plain), "{}", rule.id());
        }
    }

    #[test]
    fn only_the_client_offends() {
        for rule in Rule::ALL {
            if rule.stage() == Stage::Response {
                assert_eq!(rule.offence(), None, "{} blames the client", rule.id());
                assert_eq!(rule.status(), 502);
            }
        }
    }
}
