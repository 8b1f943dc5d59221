//! Exceptions in answers: stack traces, drivers' errors and debug pages that were meant for no client.
//!
//! One pass looks for marks, which are literals; where one stands, an expression decides whether it
//! is what it looks like.

use std::sync::{LazyLock, OnceLock};

use regex::bytes::{Regex, RegexBuilder};

use crate::violation::Exception;

/// Octets of a body that are looked at.
pub const SCANNED_OCTETS: usize = 64 << 10;
/// Marks that are looked at more closely; who needs more of them is no exception.
const MARKS_LIMIT: usize = 64;
/// Octets around a mark that the closer look takes in.
const BEFORE: usize = 512;
const BEHIND: usize = 256;

/// What `\b` stands for in the expressions: in a JSON string the letter of an escape may come before a
/// word.
const BOUNDARY: &str = r"(?:\b|\\[nrt])";

/// A literal that gives an exception away, and what must stand around it; nothing if that is empty.
/// Repetitions need no bound, for the octets around are few.
type Sign = (Exception, &'static str, &'static str);

const SIGNS: &[Sign] = {
    use Exception::{
        DebugPage, DotNetStackTrace, GoPanic, JavaStackTrace, MongoDbError, MySqlError,
        NodeStackTrace, OracleError, PhpError, PostgreSqlError, PythonTraceback, RubyBacktrace,
        RustPanic, SqlError, SqlServerError, SqliteError,
    };
    &[
        (JavaStackTrace, ".java:", r"\bat [\w.$/<>&;@\-]+\([\w$]+\.java:\d+\)"),
        (JavaStackTrace, ".kt:", r"\bat [\w.$/<>&;@\-]+\([\w$]+\.kt:\d+\)"),
        (JavaStackTrace, ".scala:", r"\bat [\w.$/<>&;@\-]+\([\w$]+\.scala:\d+\)"),
        (JavaStackTrace, "java.lang.", r"\bjava\.lang\.(?:\w+\.)*\w*(?:Exception|Error)\b"),
        (JavaStackTrace, "java.util.", r"\bjava\.util\.(?:\w+\.)*\w+Exception\b"),
        (JavaStackTrace, "java.io.", r"\bjava\.io\.\w+Exception\b"),
        (
            JavaStackTrace,
            "org.springframework.",
            r"\borg\.springframework\.(?:\w+\.)+\w*(?:Exception|Error)\b",
        ),
        (JavaStackTrace, "org.hibernate.", r"\borg\.hibernate\.(?:\w+\.)*\w+Exception\b"),
        (PythonTraceback, "Traceback (most recent call last)", ""),
        (DotNetStackTrace, ".cs:line ", r"\bin [^\n]+\.cs:line \d"),
        (
            DotNetStackTrace,
            "System.",
            r"\bSystem(?:\.\w+)*\.\w+Exception\b|\bat System(?:\.[\w`<>\[\],]+)+\(",
        ),
        (DotNetStackTrace, "Microsoft.AspNetCore.", r"\bat Microsoft\.AspNetCore\.[\w.`<>\[\]]+\("),
        (
            PhpError,
            ".php",
            r"#\d+ [^\n]+\.php\(\d+\)|\.php(?:</b>)? on line (?:<b>)?\d|PHP (?:Fatal|Parse) error:",
        ),
        (PhpError, "Uncaught ", r"Fatal error(?:</b>)?:\s+Uncaught "),
        (RubyBacktrace, ".rb:", r"\.rb:\d+:in [`'\\&]"),
        (NodeStackTrace, ".js:", JS_FRAME),
        (NodeStackTrace, ".mjs:", JS_FRAME),
        (NodeStackTrace, ".cjs:", JS_FRAME),
        (NodeStackTrace, ".ts:", JS_FRAME),
        (NodeStackTrace, "node:internal/", r"\bat [^\n]*node:internal/[\w/]+:\d+:\d"),
        (GoPanic, "goroutine ", r"\bgoroutine \d+ \[[a-z][^\]\n]*\]:"),
        (
            GoPanic,
            "runtime error: ",
            r"runtime error: (?:invalid memory address|index out of range|slice bounds out of range|integer divide by zero|makeslice|hash of unhashable)",
        ),
        (RustPanic, "panicked at ", r"\bthread '[^'\n]*'(?: \(\d+\))? panicked at "),
        (MySqlError, "You have an error in your SQL syntax", ""),
        (MySqlError, "MySqlException", ""),
        (MySqlError, "com.mysql.", r"\bcom\.mysql\.(?:cj\.)?jdbc\."),
        (MySqlError, "mysqli", r"\bmysqli(?:_sql_exception\b|_\w+\(\))"),
        (MySqlError, "ER_PARSE_ERROR", ""),
        (MySqlError, "ER_DUP_ENTRY", ""),
        (MySqlError, "ER_BAD_FIELD_ERROR", ""),
        (MySqlError, "ER_NO_SUCH_TABLE", ""),
        (PostgreSqlError, "PSQLException", ""),
        (PostgreSqlError, "PG::", r"\bPG::[A-Z]\w+"),
        (PostgreSqlError, "psycopg", r"\bpsycopg2?(?:\.\w+)*\.\w+(?:Error|Violation)\b"),
        (PostgreSqlError, "pg_query", r"\bpg_query(?:_params)?\(\)"),
        (PostgreSqlError, "syntax error at or near ", ""),
        (
            PostgreSqlError,
            " violates ",
            r" violates (?:unique|foreign key|not-null|check|exclusion) constraint",
        ),
        (
            PostgreSqlError,
            "invalid input syntax for ",
            r"invalid input syntax for (?:type |integer|uuid)",
        ),
        (OracleError, "ORA-", r"\bORA-\d{5}\b"),
        (OracleError, "PLS-", r"\bPLS-\d{5}\b"),
        (SqlServerError, "Unclosed quotation mark after", ""),
        (SqlServerError, "Incorrect syntax near ", ""),
        (SqlServerError, "[SQL Server]", ""),
        (SqlServerError, "com.microsoft.sqlserver.", ""),
        (SqlServerError, "Microsoft OLE DB Provider for ", ""),
        (
            SqliteError,
            "SQLITE_",
            r"\bSQLITE_(?:ERROR|CONSTRAINT|BUSY|MISUSE|CORRUPT|READONLY|FULL|RANGE|MISMATCH)\b",
        ),
        (SqliteError, "sqlite3.", r"\bsqlite3\.\w+(?:Error|Warning)\b"),
        (SqliteError, "SQLite3::", r"\bSQLite3::\w+Exception\b"),
        (
            SqliteError,
            ": syntax error",
            r#"\bnear (?:\\?"|&quot;|&#34;)[^"&\n]+(?:"|&quot;|&#34;): syntax error"#,
        ),
        (MongoDbError, "MongoError", ""),
        (MongoDbError, "MongoServerError", ""),
        (MongoDbError, "E11000 duplicate key", ""),
        (MongoDbError, "com.mongodb.", r"\bcom\.mongodb\.\w+"),
        (MongoDbError, "pymongo.errors.", ""),
        (SqlError, "SQLSTATE", r"\bSQLSTATE\b[\[:=( ]{0,3}[0-9A-Z]{5}\b"),
        (SqlError, "java.sql.", r"\bjava\.sql\.\w*Exception\b"),
        (DebugPage, "Werkzeug Debugger", ""),
        (DebugPage, "<code>DEBUG = True</code>", ""),
        (DebugPage, "Whitelabel Error Page", ""),
        (DebugPage, "window.ignite(", ""),
        (DebugPage, "Whoops, looks like something went wrong", ""),
        (DebugPage, "Whoops! There was an error", ""),
        (DebugPage, "Action Controller: Exception caught", ""),
        (DebugPage, "Server Error in '/", r"Server Error in '/[^'\n]*' Application"),
        (DebugPage, "Symfony Exception", ""),
        (DebugPage, "<h3>Apache Tomcat/", ""),
        (DebugPage, "<title>phpinfo()", ""),
    ]
};

/// A frame of V8: `at load (/srv/app/load.js:10:15)`, its path perhaps with JSON's escapes.
const JS_FRAME: &str =
    r"\bat [^\n]*?(?:file://|node:|[/\\]|[A-Za-z]:\\)[^\s()]+\.[cm]?[jt]s:\d+:\d";

struct Signs {
    marks: Regex,
    /// In the order of [`SIGNS`]; compiled when their mark is first seen, once in the life of a process,
    /// since all of them would take as long as a large document at start.
    around: Vec<OnceLock<Regex>>,
}

static COMPILED: LazyLock<Signs> = LazyLock::new(|| {
    let marks: Vec<_> = SIGNS.iter().map(|(_, mark, _)| regex::escape(mark)).collect();
    let around = SIGNS.iter().map(|_| OnceLock::new()).collect();
    Signs { marks: compiled(&marks.join("|")), around }
});

fn compiled(source: &str) -> Regex {
    let built = RegexBuilder::new(&source.replace(r"\b", BOUNDARY)).unicode(false).build();
    built.expect("the expressions are our own, and a test compiles each")
}

/// Compiles the marks, so that no answer waits for them.
pub(crate) fn prepare() {
    LazyLock::force(&COMPILED);
}

/// The exception that a refused answer's body is, if it is one: a whole page of HTML counts too.
pub fn recognise(body: &[u8]) -> Option<Exception> {
    trace(body).or_else(|| is_page(body).then_some(Exception::HtmlPage))
}

/// The stack trace, driver's error or debug page that a body holds.
pub(crate) fn trace(body: &[u8]) -> Option<Exception> {
    let body = body.get(..SCANNED_OCTETS).unwrap_or(body);
    let Signs { marks, around } = &*COMPILED;
    marks.find_iter(body).take(MARKS_LIMIT).find_map(|found| {
        let start = found.start().saturating_sub(BEFORE);
        let window = body.get(start..body.len().min(found.end() + BEHIND))?;
        let signs = SIGNS.iter().zip(around);
        let (sign, _) = signs
            .filter(|((_, mark, _), _)| mark.as_bytes() == found.as_bytes())
            .find(|((.., source), around)| {
                source.is_empty() || around.get_or_init(|| compiled(source)).is_match(window)
            })?;
        Some(sign.0)
    })
}

fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|start| body.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
mod tests;
