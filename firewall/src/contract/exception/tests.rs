//! What is an exception, and what an ordinary API may well answer.

use super::*;

#[test]
fn exceptions_of_each_kind() {
    use Exception::{
        DebugPage, DotNetStackTrace, GoPanic, HtmlPage, JavaStackTrace, MongoDbError, MySqlError,
        NodeStackTrace, OracleError, PhpError, PostgreSqlError, PythonTraceback, RubyBacktrace,
        RustPanic, SqlError, SqlServerError, SqliteError,
    };
    for (body, expected) in [
        // As JSON and as text.
        (
            r#"{"error":"java.lang.NullPointerException\n\tat com.shop.Cart.total(Cart.java:12)"}"#,
            JavaStackTrace,
        ),
        (r#"{"trace":"\n\tat java.base/jdk.Reflect.invoke(Reflect.java:9)"}"#, JavaStackTrace),
        ("\tat app//com.shop.Cart$Line.<init>(Cart.java:1)", JavaStackTrace),
        ("at com.shop.Main&lt;init&gt;(Main.java:1)", JavaStackTrace),
        (
            r#"{"status":500,"exception":"org.springframework.dao.DataAccessException"}"#,
            JavaStackTrace,
        ),
        ("at com.shop.CartKt.total(Cart.kt:4)", JavaStackTrace),
        (
            r#"{"detail":"Traceback (most recent call last):\n  File \"/app/a.py\", line 3"}"#,
            PythonTraceback,
        ),
        (
            r#"{"e":"   at Shop.Cart.Total(Int32 id) in C:\\src\\Cart.cs:line 42"}"#,
            DotNetStackTrace,
        ),
        ("System.NullReferenceException: Object reference not set", DotNetStackTrace),
        ("   at System.Web.Mvc.Controller.Execute(RequestContext c)", DotNetStackTrace),
        ("at Microsoft.AspNetCore.Mvc.Infrastructure.Invoker.Next(State& next)", DotNetStackTrace),
        ("<b>Warning</b>: x in <b>/var/www/a.php</b> on line <b>3</b>", PhpError),
        (r##"{"trace":["#0 \/var\/www\/a.php(12): f()"]}"##, PhpError),
        ("PHP Fatal error:  Uncaught TypeError: x in /a", PhpError),
        ("app/models/cart.rb:12:in `total'", RubyBacktrace),
        ("app/models/cart.rb:12:in 'Cart#total'", RubyBacktrace),
        (r#"{"stack":"TypeError: x\n    at load (/srv/app/load.js:10:15)"}"#, NodeStackTrace),
        ("    at async file:///srv/app/main.mjs:1:2", NodeStackTrace),
        ("at C:\\app\\x.ts:1:2", NodeStackTrace),
        ("at Module._compile (node:internal/modules/cjs/loader:1256:14)", NodeStackTrace),
        ("goroutine 1 [running]:\nmain.main()", GoPanic),
        ("panic: runtime error: index out of range [3] with length 3", GoPanic),
        ("thread 'main' panicked at src/main.rs:2:5:", RustPanic),
        ("thread 'main' (77) panicked at src/main.rs:2:5:", RustPanic),
        ("You have an error in your SQL syntax; check the manual", MySqlError),
        ("com.mysql.cj.jdbc.exceptions.CommunicationsException", MySqlError),
        (r#"{"code":"ER_DUP_ENTRY"}"#, MySqlError),
        (r#"ERROR:  syntax error at or near \"'\""#, PostgreSqlError),
        ("psycopg2.errors.UniqueViolation: x", PostgreSqlError),
        ("PG::UndefinedTable: ERROR", PostgreSqlError),
        ("duplicate key value violates unique constraint \"users_pkey\"", PostgreSqlError),
        ("ORA-00933: SQL command not properly ended", OracleError),
        ("Unclosed quotation mark after the character string ''.", SqlServerError),
        ("[Microsoft][ODBC Driver 17 for SQL Server][SQL Server]Invalid", SqlServerError),
        ("sqlite3.OperationalError: no such table: users", SqliteError),
        (r#"{"e":"near \"FORM\": syntax error"}"#, SqliteError),
        (r#"{"code":"SQLITE_ERROR"}"#, SqliteError),
        ("MongoServerError: E11000 duplicate key error collection", MongoDbError),
        ("SQLSTATE[42000]: Syntax error or access violation", SqlError),
        ("java.sql.SQLException: Closed Connection", SqlError),
        ("<title>Werkzeug Debugger</title>", DebugPage),
        ("<h1>Whitelabel Error Page</h1>", DebugPage),
        ("<span><H1>Server Error in '/' Application.<hr>", DebugPage),
        ("\u{feff}\r\n<!DOCTYPE HTML><p>moved", HtmlPage),
        ("<HTML lang=en>", HtmlPage),
    ] {
        assert_eq!(recognise(body.as_bytes()), Some(expected), "{body}");
    }
}

#[test]
fn what_is_no_exception() {
    for body in [
        "",
        r#"{"title":"Oops","status":500,"trace":"at x"}"#,
        r#"{"message":"Your cart violates our terms","file":"main.js:10"}"#,
        r#"{"error":"The system. Exception to the rule."}"#,
        r#"{"name":"System.Text","note":"ORA-1","sku":"PLS-12"}"#,
        r#"{"url":"https://example.org/app.js:8080/index.php?x=1"}"#,
        r#"{"package":"java.lang.String","docs":"org.springframework.boot"}"#,
        r#"{"at":"2026-11-21T10:00:00Z","path":"/src/a.ts","line":"a.ts:1"}"#,
        r#"{"text":"goroutine 7 is a name","q":"runtime error: unknown"}"#,
        r#"{"text":"he panicked at the door","v":"SQLSTATE unknown"}"#,
        r#"{"html":"<html><body>quoted</body></html>"}"#,
        "<htm",
    ] {
        assert_eq!(recognise(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn every_expression_compiles_and_no_mark_hides_another() {
    for (exception, mark, around) in SIGNS {
        assert!(mark.len() >= 3, "{mark}");
        assert!(!compiled(around).is_match(b"") || around.is_empty(), "{around}");
        let other = SIGNS.iter().find(|(_, other, _)| other.starts_with(mark) && other != mark);
        assert_eq!(other, None, "{mark} of {exception:?} would hide a longer one");
    }
}

#[test]
fn only_the_beginning_is_looked_at_and_only_so_many_marks() {
    let sign = "Whitelabel Error Page";
    for (before, expected) in [(SCANNED_OCTETS - sign.len(), true), (SCANNED_OCTETS, false)] {
        let body = format!("{}{sign}", " ".repeat(before));
        assert_eq!(recognise(body.as_bytes()).is_some(), expected, "{before}");
    }
    for (marks, expected) in [(MARKS_LIMIT - 1, true), (MARKS_LIMIT, false)] {
        let body = format!("{}{sign}", "ORA-1 ".repeat(marks));
        assert_eq!(recognise(body.as_bytes()).is_some(), expected, "{marks}");
    }
}
