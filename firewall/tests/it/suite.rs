//! Every group of the suite is an operation's body and another's answer: what the suite calls valid
//! must pass unchanged, what it calls invalid must be refused, and nothing is left out unsaid.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use firewall::contract::{LoadOptions, load};
use serde_json::json;
use xtask::suite::{Group, Test};

use crate::kit::Scratch;
use crate::kit::client::{Answer, Client, bodiless, with_body};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{self, Upstream};

mod exclusions;

use exclusions::{EXCLUSIONS, Exclusion, Outcome};

/// Where the suite expects its remote schemas to be.
const REMOTES: &str = "http://localhost:1234/";
/// Failures that are told; the rest is counted.
const TOLD: usize = 60;

#[test]
fn json_schema_test_suite() {
    let Some(suite) = xtask::suite::cached() else {
        return xtask::skip::skipped("suite::json_schema_test_suite", xtask::suite::NOT_CACHED);
    };
    let groups = xtask::suite::read(&suite).unwrap();
    let mut run = Run::new(suite.join("remotes"));
    let groups = groups.into_iter().enumerate().filter(|(n, group)| run.loads(*n, group)).collect();
    run.exchange(groups);
    run.conclude();
}

/// What has been seen so far.
struct Run {
    scratch: Scratch,
    remotes: PathBuf,
    /// How many cases each entry of the table is about.
    used: Vec<usize>,
    failures: Vec<String>,
    groups: usize,
    refused_groups: usize,
    /// Cases that got the suite's verdict, in both directions: valid ones, invalid ones.
    agreed: [usize; 2],
}

impl Run {
    fn new(remotes: PathBuf) -> Self {
        Self {
            scratch: Scratch::new(),
            remotes,
            used: vec![0; EXCLUSIONS.len()],
            failures: Vec::new(),
            groups: 0,
            refused_groups: 0,
            agreed: [0; 2],
        }
    }

    /// Whether a group's schema is loaded, alone in a contract; where it is not, that must be said in
    /// the table, with the words in which it is refused.
    fn loads(&mut self, n: usize, group: &Group) -> bool {
        self.groups += 1;
        self.scratch.file(&schema_file(n), &group.schema);
        let path = self.scratch.file("alone.json", &document([n]));
        let references = BTreeMap::from([(REMOTES.to_owned(), self.remotes.clone())]);
        let loaded = load(&path, &LoadOptions { references, ..LoadOptions::default() });
        let expected = EXCLUSIONS.iter().position(|entry| {
            matches!(entry.outcome, Outcome::Load(_)) && entry.is_about_group(group)
        });
        let place = format!("{} :: {}", group.file, group.description);
        match (loaded, expected.and_then(|at| Some((at, EXCLUSIONS.get(at)?)))) {
            (Ok(_), None) => return true,
            (Ok(_), Some(_)) => {
                self.failures.push(format!("{place}: loads, and the table says that it does not"));
            }
            (Err(errors), None) => {
                let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
                self.failures.push(format!("{place}: refused at load: {}", told.join("; ")));
            }
            (Err(errors), Some((at, entry))) => {
                self.used[at] += group.tests.len();
                self.refused_groups += 1;
                let Outcome::Load(words) = entry.outcome else { unreachable!("was looked for") };
                let is_foreseen = |told: &str| words.iter().any(|words| told.contains(words));
                if !errors.iter().all(|error| is_foreseen(&error.problem.to_string())) {
                    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
                    self.failures.push(format!("{place}: not for {words:?}: {}", told.join("; ")));
                }
            }
        }
        false
    }

    /// Sends every instance through the real program, to the upstream and from it.
    fn exchange(&mut self, groups: Vec<(usize, Group)>) {
        let groups = Arc::new(groups);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let upstream = {
            let (groups, seen) = (Arc::clone(&groups), Arc::clone(&seen));
            Upstream::start(move |request| {
                if let Some(data) = instance(&groups, request.line()) {
                    return upstream::json("200 OK", data);
                }
                seen.lock().unwrap().push(request.body.clone());
                upstream::json("200 OK", "null")
            })
        };
        let remotes = self.remotes.display();
        let setup = Setup {
            api: format!("references = {{ \"{REMOTES}\" = \"{remotes}\" }}"),
            listen: "workers = 1".to_owned(),
            files: groups
                .iter()
                .map(|(n, group)| (schema_file(*n), group.schema.clone()))
                .collect(),
            ..Setup::of(&document(groups.iter().map(|(n, _)| *n)))
        };
        let gateway = Gateway::start(&setup, &upstream);
        let mut client = Persistent::new(gateway.address);
        for (n, group) in &*groups {
            for (case, test) in group.tests.iter().enumerate() {
                let line = format!("POST /requests/{n}");
                let answer = client.ask(&with_body(&line, "application/json", &test.data));
                let forwarded = std::mem::take(&mut *seen.lock().unwrap());
                let request = Verdict::of(&answer);
                let is_intact = forwarded
                    .iter()
                    .eq((request == Verdict::Passed).then_some(test.data.as_bytes()).iter());
                let answer = client.ask(&bodiless(&format!("GET /responses/{n}/{case}")));
                let mut response = Verdict::of(&answer);
                if response == Verdict::Passed && answer.body != test.data.as_bytes() {
                    response = Verdict::Other("200 with another body".to_owned());
                }
                self.judge(group, test, is_intact, &[request, response]);
            }
        }
    }

    fn judge(&mut self, group: &Group, test: &Test, is_intact: bool, found: &[Verdict; 2]) {
        let by_suite =
            Verdict::pair(if test.valid { None } else { Some(("body.schema", "response.schema")) });
        let entry = EXCLUSIONS.iter().position(|entry| {
            entry.is_about(group, test) && entry.outcome.verdicts().is_some_and(|it| it != by_suite)
        });
        let expected = entry
            .and_then(|at| {
                self.used[at] += 1;
                EXCLUSIONS.get(at)?.outcome.verdicts()
            })
            .unwrap_or_else(|| by_suite.clone());
        let place = format!("{} :: {} :: {}", group.file, group.description, test.description);
        if !is_intact {
            self.failures.push(format!("{place}: the upstream saw other octets than were sent"));
        }
        if *found != expected {
            let stale =
                if *found == by_suite { ", as the suite has it: the entry is stale" } else { "" };
            self.failures.push(format!("{place}: expected {expected:?}, found {found:?}{stale}"));
        } else if entry.is_none() {
            self.agreed[usize::from(!test.valid)] += 1;
        }
    }

    #[expect(clippy::print_stdout, reason = "the counts are the suite's product")]
    fn conclude(mut self) {
        let mut report = format!(
            "JSON-Schema-Test-Suite, draft 2020-12, through the program in both directions:\n\
             {:6} groups, {} of them refused at load\n\
             {:6} valid instances passed as request and as response, octets unchanged\n\
             {:6} invalid instances refused as request and as response\n",
            self.groups, self.refused_groups, self.agreed[0], self.agreed[1],
        );
        let mut by_reason = BTreeMap::<String, usize>::new();
        for (entry, used) in EXCLUSIONS.iter().zip(&self.used) {
            *by_reason.entry(entry.reason.to_string()).or_default() += used;
            if *used == 0 {
                self.failures.push(format!("{entry:?} is about nothing"));
            }
        }
        for (reason, cases) in &by_reason {
            writeln!(report, "{cases:6} instances have another verdict here: {reason}").unwrap();
        }
        println!("{report}");
        let count = self.failures.len();
        self.failures.truncate(TOLD);
        assert!(count == 0, "{count} failures:\n{}", self.failures.join("\n"));
    }
}

/// What became of an instance in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// By the rule of this name.
    Refused(String),
    Other(String),
}

impl Verdict {
    fn of(answer: &Answer) -> Self {
        match answer.status {
            200 => Self::Passed,
            400 | 502 if answer.header("content-type") == Some("application/problem+json") => {
                answer.json()["rule"].as_str().map_or_else(
                    || Self::Other(answer.text()),
                    |rule| Self::Refused(rule.to_owned()),
                )
            }
            status => Self::Other(format!("{status}: {}", answer.text())),
        }
    }

    /// In both directions: passed, or refused by these rules.
    fn pair(rules: Option<(&str, &str)>) -> [Self; 2] {
        rules.map_or([Self::Passed, Self::Passed], |(request, response)| {
            [request, response].map(|rule| Self::Refused(rule.to_owned()))
        })
    }
}

/// A client that connects again when its connection was closed.
struct Persistent {
    to: std::net::SocketAddr,
    client: Client,
}

impl Persistent {
    fn new(to: std::net::SocketAddr) -> Self {
        Self { to, client: Client::connect(to) }
    }

    #[track_caller]
    fn ask(&mut self, request: &str) -> Answer {
        let answer = self.client.send(request).answer().expect("an answer");
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.client = Client::connect(self.to);
        }
        answer
    }
}

/// The instance that a request asks the upstream for; none for the requests that bring one.
fn instance<'g>(groups: &'g [(usize, Group)], line: &str) -> Option<&'g str> {
    let mut parts = line.strip_prefix("GET /responses/")?.split([' ', '/']);
    let n: usize = parts.next()?.parse().unwrap();
    let case: usize = parts.next()?.parse().unwrap();
    let (_, group) = groups.iter().find(|(known, _)| *known == n).unwrap();
    Some(&group.tests[case].data)
}

fn schema_file(n: usize) -> String {
    format!("schema-{n}.json")
}

/// A document with two operations for each group; their schemas stand beside it.
fn document(groups: impl IntoIterator<Item = usize>) -> String {
    let mut paths = serde_json::Map::new();
    for n in groups {
        let content = json!({"application/json": {"schema": {"$ref": schema_file(n)}}});
        let any = json!({"application/json": {}});
        paths.insert(
            format!("/requests/{n}"),
            json!({"post": {
                "requestBody": {"required": true, "content": content},
                "responses": {"200": {"description": "forwarded", "content": any}},
            }}),
        );
        paths.insert(
            format!("/responses/{n}/{{case}}"),
            json!({"get": {
                "parameters": [{
                    "name": "case", "in": "path", "required": true, "schema": {"type": "integer"},
                }],
                "responses": {"200": {"description": "the instance", "content": content}},
            }}),
        );
    }
    let info = json!({"title": "suite", "version": "1"});
    json!({"openapi": "3.1.1", "info": info, "paths": paths}).to_string()
}

impl Exclusion {
    fn is_about_group(&self, group: &Group) -> bool {
        self.file == group.file && (self.group.is_empty() || self.group == group.description)
    }

    fn is_about(&self, group: &Group, test: &Test) -> bool {
        self.is_about_group(group) && test.description.contains(self.test)
    }
}

impl Outcome {
    /// None for what is refused at load.
    fn verdicts(&self) -> Option<[Verdict; 2]> {
        match *self {
            Self::Load(_) => None,
            Self::Refused(request, response) => Some(Verdict::pair(Some((request, response)))),
        }
    }
}
