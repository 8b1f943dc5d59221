//! What code must not contain: skipped tests, unfinished work, glob imports, `unsafe` out of place.

use super::code::Code;
use super::{Finding, Source};

/// Where `unsafe` may stand. Folders end in `/`.
const UNSAFE: [&str; 11] = [
    "bench/ebpf/src/",
    "firewall-common/src/",
    "firewall-ebpf/src/program.rs",
    "firewall-ebpf/src/program/bans.rs",
    "firewall-ebpf/src/program/cookies.rs",
    "firewall-ebpf/src/program/fault.rs",
    "firewall-ebpf/src/program/frame.rs",
    "firewall-ebpf/src/program/purse.rs",
    "firewall/src/kernel/syscall.rs",
    "firewall/src/kernel/table.rs",
    "firewall/src/listen/inherit.rs",
];

/// What is never written, with the reason.
const NEVER: [(&str, &str); 7] = [
    ("#[ignore", "a test that does not run says so through xtask::skip, or is deleted"),
    ("#[should_panic", "assert on what is returned; a panic may be another's"),
    ("#![allow(", "expect a lint where it strikes, with a reason"),
    ("#[allow(", "expect a lint, with a reason"),
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left over"),
];

/// Written apart, so that this file is not found.
const MARKERS: [&str; 2] = [concat!("FIX", "ME"), concat!("TO", "DO")];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(markers(source));
        if source.has_extension("rs") {
            let code = Code::new(source);
            findings.extend(never(source, &code));
            findings.extend(globs(source, &code));
            findings.extend(unsafe_code(source, &code));
        }
    }
    findings
}

fn markers(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let words = text.split(|character: char| !super::code::is_word(character));
        for word in words.filter(|word| MARKERS.contains(word)) {
            findings.push(Finding::new(source, line, format!("{word}: finish it or file it")));
        }
    }
    findings
}

fn never(source: &Source, code: &Code) -> Vec<Finding> {
    let found = |(construct, reason): &(&str, &str)| {
        code.text()
            .match_indices(construct)
            .filter(|(offset, _)| {
                let before = code.text().get(..*offset).unwrap_or_default();
                construct.starts_with('#') || !before.ends_with(super::code::is_word)
            })
            .map(|(offset, _)| {
                let problem = format!("{construct}: {reason}");
                Finding::new(source, code.line_at(offset), problem)
            })
            .collect::<Vec<_>>()
    };
    NEVER.iter().flat_map(found).collect()
}

fn globs(source: &Source, code: &Code) -> Vec<Finding> {
    let mut findings = Vec::new();
    for start in code.words("use") {
        let statement = code.text().get(start..).unwrap_or_default();
        let statement = statement.split(';').next().unwrap_or_default();
        let line = code.line_at(start);
        if statement.contains("::*") && !code.is_test(line) {
            findings.push(Finding::new(source, line, "a glob import hides where names come from"));
        }
    }
    findings
}

fn unsafe_code(source: &Source, code: &Code) -> Vec<Finding> {
    let permitted = UNSAFE.iter().any(|place| {
        source.path == *place || (place.ends_with('/') && source.path.starts_with(place))
    });
    if permitted {
        return Vec::new();
    }
    code.words("unsafe")
        .chain(code.words("expect(unsafe_code"))
        .map(|offset| {
            let problem = format!("unsafe stands only in {}", UNSAFE.join(", "));
            Finding::new(source, code.line_at(offset), problem)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::problems;

    fn check_rust(text: &str) -> Vec<String> {
        problems(check, "firewall/src/pipeline.rs", text)
    }

    #[test]
    fn tests_run_and_work_is_finished() {
        for text in [
            "fn ignore() { todo(); }",
            "let text = \"#[ignore] todo!() dbg!()\"; // #[should_panic]",
            "my_todo!(); not_dbg!(1)",
            "#[expect(dead_code, reason = \"used by\")]",
        ] {
            assert_eq!(check_rust(text), [""; 0], "{text}");
        }
        for (text, construct) in [
            ("\n#[ignore = \"slow\"]", "#[ignore"),
            ("\n#[should_panic(expected = \"a\")]", "#[should_panic"),
            ("\nfn f() { todo!() }", "todo!"),
            ("\nfn f() { unimplemented!() }", "unimplemented!"),
            ("\nlet a = dbg!(b);", "dbg!"),
            ("\n#[allow(dead_code, reason = \"a\")]", "#[allow("),
        ] {
            let found = check_rust(text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].starts_with(&format!("2: {construct}: ")), "{found:?}");
        }
    }

    #[test]
    fn markers_are_found_in_comments_of_any_file() {
        for marker in MARKERS {
            let found = problems(check, "firewall/docs/a.md", &format!("a\nb {marker}: c"));
            assert_eq!(found, [format!("2: {marker}: finish it or file it")]);
            assert_eq!(check_rust(&format!("// {marker}")).len(), 1);
            assert_eq!(check_rust(&format!("// {marker}S_MAX {}", marker.to_lowercase())), [""; 0]);
        }
    }

    #[test]
    fn globs_are_for_tests() {
        let problem = "a glob import hides where names come from";
        for text in [
            "use a::{b, c};\nlet x = y::z * 2;",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
            "/// use a::*;\nfn f() {}",
        ] {
            assert_eq!(check_rust(text), [""; 0], "{text}");
        }
        assert_eq!(problems(check, "firewall/src/a/tests.rs", "use super::*;"), [""; 0]);
        assert_eq!(check_rust("use super::*;"), [format!("1: {problem}")]);
        assert_eq!(check_rust("\npub(crate) use a::{\n    b::*,\n};"), [format!("2: {problem}")]);
    }

    #[test]
    fn unsafe_stands_in_its_places() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        for path in UNSAFE {
            let path = if path.ends_with('/') { format!("{path}lib.rs") } else { path.to_owned() };
            assert_eq!(problems(check, &path, text), [""; 0], "{path}");
        }
        for path in ["firewall/src/kernel/table/more.rs", "firewall/src/kernel.rs"] {
            let found = problems(check, path, text);
            assert_eq!(found.len(), 1, "{path}");
            assert!(found[0].starts_with("2: unsafe stands only in "), "{found:?}");
        }
        assert_eq!(check_rust("#![expect(unsafe_code, reason = \"a\")]").len(), 1);
        assert_eq!(check_rust("#![deny(unsafe_code)] // unsafe"), [""; 0]);
    }
}
