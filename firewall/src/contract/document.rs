//! A document as written: JSON or YAML 1.2 into one value, and where each part of it stands.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use sha2::{Digest, Sha256};

use lines::Located;

use super::problem::{ContractError, Problem};

mod lines;

/// Octets that one file may have.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;
/// Levels of mappings and sequences; `serde_json`'s own limit, so that both formats agree.
const DEPTH_LIMIT: usize = 127;
/// Octets of stack for reading and compiling, which recurse as deep as the document does.
const STACK: usize = 64 * 1024 * 1024;

/// Runs `work` where a document of [`DEPTH_LIMIT`] levels cannot exhaust the stack.
///
/// # Errors
///
/// No thread can be started.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One file, read whole.
pub(crate) struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) root: Value,
    /// Of the octets, in hexadecimal.
    pub(crate) sha256: String,
    text: String,
    is_json: bool,
}

impl Document {
    /// # Errors
    ///
    /// The file cannot be read, is too large, or is neither JSON nor YAML as this reader demands:
    /// names are unique, scalars mean what YAML 1.2 says, aliases do not multiply.
    pub(crate) fn read(path: &Path) -> Result<Self, ContractError> {
        let file: Arc<str> = path.display().to_string().into();
        let refuse = |line, problem| ContractError {
            file: Arc::clone(&file),
            line,
            pointer: "".into(),
            problem,
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|opened| opened.take(FILE_LIMIT + 1).read_to_string(&mut text))
            .map_err(|error| refuse(None, Problem::Unreadable(error.to_string().into())))?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(refuse(None, Problem::TooLarge { limit: FILE_LIMIT }));
        }
        let is_json = path.extension().is_some_and(|extension| extension == "json")
            || path.extension().is_none() && text.trim_start().starts_with('{');
        let parsed = if is_json { parse_json(&text) } else { parse_yaml(&text) };
        let (line, message) = match parsed {
            Ok(root) => {
                let sha256 = hexadecimal(&Sha256::digest(text.as_bytes()));
                return Ok(Self { file, root, sha256, text, is_json });
            }
            Err(error) => error,
        };
        Err(refuse(line, Problem::Syntax(message.into())))
    }

    pub(crate) fn octets(&self) -> u64 {
        self.text.len() as u64
    }

    /// The lines of `pointers`, found by reading the file again: only for problems to report.
    pub(crate) fn lines<'p>(&self, pointers: impl Iterator<Item = &'p str>) -> Vec<Option<u32>> {
        let mut pointers = pointers.peekable();
        if pointers.peek().is_none() {
            return Vec::new();
        }
        let located = if self.is_json {
            Located::json(&self.text)
        } else {
            serde_saphyr::from_str_with_options(&self.text, yaml_options()).ok()
        };
        pointers.map(|pointer| located.as_ref()?.line(pointer)).collect()
    }
}

pub(crate) fn hexadecimal(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).flatten().collect()
}

type Refusal = (Option<u32>, String);

fn parse_json(text: &str) -> Result<Value, Refusal> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        let line = u32::try_from(error.line()).ok().filter(|line| *line > 0);
        (line, format!("not JSON: {error}"))
    })
}

fn parse_yaml(text: &str) -> Result<Value, Refusal> {
    serde_saphyr::from_str_with_options::<Strict>(text, yaml_options())
        .map(|strict| strict.0)
        .map_err(|error| {
            let line = error.location().and_then(|at| u32::try_from(at.line()).ok());
            (line.filter(|line| *line > 0), format!("not YAML 1.2: {error}"))
        })
}

fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            max_documents: 1,
            simple_key_max_lookahead: 4096,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

/// A JSON value in which no object names a member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Strict, E> {
                Number::from_f64(value)
                    .map(|number| Strict(Value::Number(number)))
                    .ok_or_else(|| E::custom("a number is not finite"))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(Value::String(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<Strict, E> {
                Ok(Strict(Value::String(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut array = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    array.push(item);
                }
                Ok(Strict(Value::Array(array)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut object = Map::new();
                while let Some(name) = members.next_key::<String>()? {
                    if object.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("`{name}` is given twice")));
                    }
                    let Strict(value) = members.next_value()?;
                    object.insert(name, value);
                }
                Ok(Strict(Value::Object(object)))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A JSON Pointer's token as the name it stands for (RFC 6901 section 4).
pub(crate) fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A name as a JSON Pointer's token (RFC 6901 section 3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_scalars_mean_what_yaml_1_2_says() {
        for (yaml, expected) in [
            ("no", json!("no")),
            ("on", json!("on")),
            ("yes", json!("yes")),
            ("y", json!("y")),
            ("off", json!("off")),
            ("true", json!(true)),
            ("null", json!(null)),
            ("~", json!(null)),
            ("", json!(null)),
            ("'null'", json!("null")),
            ("010", json!("010")),
            ("1_000", json!("1_000")),
            ("1e3", json!(1000.0)),
            ("12", json!(12)),
            ("-7", json!(-7)),
            ("1.0", json!(1.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("3.0.3", json!("3.0.3")),
            ("1:30", json!("1:30")),
            ("2026-01-02", json!("2026-01-02")),
            ("'1'", json!("1")),
            ("!!str 1", json!("1")),
            ("[a, b]", json!(["a", "b"])),
            ("{\"a\": 1}", json!({"a": 1})),
            ("a: &x [1]\nb: *x", json!({"a": [1], "b": [1]})),
            ("200: a\n'404': b\n4XX: c", json!({"200": "a", "404": "b", "4XX": "c"})),
            ("no: 1\ntrue: 2", json!({"no": 1, "true": 2})),
        ] {
            let value = parse_yaml(&format!(
                "v: {}\n",
                if yaml.contains(": ") {
                    format!("\n  {}", yaml.replace('\n', "\n  "))
                } else {
                    yaml.to_owned()
                }
            ));
            assert_eq!(value, Ok(json!({"v": expected})), "{yaml}");
        }
    }

    #[test]
    fn ambiguous_yaml_is_refused() {
        let bomb = (1..12).fold("a0: &a0 [x, x, x, x]\n".to_owned(), |text, i| {
            let alias = format!("*a{}", i - 1);
            text + &format!("a{i}: &a{i} [{alias}, {alias}, {alias}, {alias}]\n")
        });
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (yaml, line) in [
            ("a: 1\nb: 2\na: 3\n", Some(3)),
            ("200: a\n'200': b\n", None),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", Some(3)),
            ("a: .inf\n", Some(1)),
            ("a: .nan\n", Some(1)),
            ("a: !tag x\n", Some(1)),
            ("a: *x\n", Some(1)),
            ("a: 1\n---\nb: 2\n", None),
            ("a:\n\t- 1\n", None),
            (&bomb, None),
            (&deep, None),
        ] {
            let parsed = with_deep_stack(|| parse_yaml(yaml)).unwrap();
            let (found, message) = parsed.expect_err(yaml);
            if line.is_some() {
                assert_eq!(found, line, "{yaml}: {message}");
            }
        }
    }

    #[test]
    fn ambiguous_json_is_refused() {
        assert_eq!(
            parse_json(r#"{"a": [1, -2, 1.5, "x", null, true]}"#),
            Ok(json!({"a": [1, -2, 1.5, "x", null, true]}))
        );
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (text, line) in [
            ("{\n\"a\": 1,\n\"a\": 2}", Some(3)),
            ("{\n\"a\": {\"b\": 1, \"b\": 2}}", Some(2)),
            ("{} {}", Some(1)),
            ("{\"a\": 1,}", Some(1)),
            (&deep, Some(1)),
        ] {
            let parsed = with_deep_stack(|| parse_json(text)).unwrap();
            assert_eq!(parsed.expect_err(text).0, line, "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_the_names() {
        let yaml = "openapi: 3.0.3\npaths:\n  /a/b:\n    get:\n      tags: [x,\n        y]\n  /~c: {post: {}}\n";
        let json = "{\n\"openapi\": \"3.0.3\",\n\"paths\": {\"/a/b\":\n{\"get\": {\"tags\": [\"x\",\n\"y\"]}},\n\"/~c\": {\"post\": {}}}}";
        let pointers = [
            "",
            "/openapi",
            "/paths",
            "/paths/~1a~1b",
            "/paths/~1a~1b/get",
            "/paths/~1a~1b/get/tags/1",
            "/paths/~1~0c/post",
            "/paths/~1~0c/absent/x",
        ];
        for (text, expected) in [(yaml, [1, 1, 2, 3, 4, 6, 7, 7]), (json, [1, 2, 3, 3, 4, 5, 6, 6])]
        {
            let document = Document {
                file: "x".into(),
                root: Value::Null,
                sha256: String::new(),
                text: text.to_owned(),
                is_json: text.starts_with('{'),
            };
            let lines = document.lines(pointers.into_iter());
            assert_eq!(lines, expected.map(Some), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Document::read(Path::new("absent.yaml")).err().unwrap();
        assert_eq!(&*error.file, "absent.yaml");
        assert!(matches!(error.problem, Problem::Unreadable(_)), "{error}");
    }
}
