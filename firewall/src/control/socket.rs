//! The command line's end of the admin socket, and its answers as text.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::cli::{member, text};
use crate::control::pcapng::{LossReader, Losses};

/// A list of all bans that fit is about 60 MiB.
const ANSWER_OCTETS: usize = 256 << 20;
/// A reload compiles documents first.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sends one request to the running firewall.
pub fn call(
    socket: &Path,
    method: &Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(StatusCode, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = async {
        let stream = UnixStream::connect(socket).await.context("is the firewall running?")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let octets = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "firewall")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(octets)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_OCTETS).collect().await;
        driver.abort();
        let octets = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        anyhow::Ok((status, serde_json::from_slice(&octets)?))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await })?
}

/// Sends one request and writes the answer's body out as it comes; gives its octets.
///
/// # Errors
///
/// The firewall's own words where it refuses.
pub fn stream(socket: &Path, path: &str, out: &mut impl std::io::Write) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.context("is the firewall running?")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request =
            Request::builder().uri(path).header(HOST, "firewall").body(Full::<Bytes>::default())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let octets = Limited::new(body, ANSWER_OCTETS).collect().await;
            let octets = octets.map_err(anyhow::Error::from_boxed)?.to_bytes();
            let answer: Value = serde_json::from_slice(&octets)?;
            anyhow::bail!("{}", text(member(&answer, "error")));
        }
        let mut octets = 0;
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                out.write_all(data)?;
                out.flush()?;
                octets += u64::try_from(data.len()).unwrap_or(u64::MAX);
            }
        }
        driver.abort();
        Ok(octets)
    })
}

/// The same of a capture; gives its losses as well.
///
/// # Errors
///
/// As [`stream`].
pub fn capture(
    socket: &Path,
    path: &str,
    out: impl std::io::Write,
) -> anyhow::Result<(u64, Losses)> {
    let mut watched = Watched { out, losses: LossReader::default() };
    let octets = stream(socket, path, &mut watched)?;
    Ok((octets, watched.losses.losses()))
}

/// What a capture has lost; none if that is nothing.
pub fn losses_text(losses: Losses) -> Option<String> {
    let Losses { behind, in_kernel } = losses;
    (losses.total() > 0).then(|| {
        format!(
            "lost: {behind} samples that came too fast, {in_kernel} that the kernel had no room for"
        )
    })
}

/// Looks at what passes by.
struct Watched<W> {
    out: W,
    losses: LossReader,
}

impl<W: std::io::Write> std::io::Write for Watched<W> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(octets)?;
        self.losses.see(octets.get(..written).unwrap_or(octets));
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A file that is made when there is something to write.
pub struct NewFile<'a> {
    path: &'a Path,
    file: Option<std::fs::File>,
}

impl<'a> NewFile<'a> {
    pub const fn new(path: &'a Path) -> Self {
        Self { path, file: None }
    }
}

impl std::io::Write for NewFile<'_> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(std::fs::File::create(self.path)?),
        };
        file.write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), std::io::Write::flush)
    }
}

/// What `firewall status` prints.
pub fn status_text(status: &Value) -> String {
    let mut lines = vec![
        format!("mode        {}", text(member(status, "mode"))),
        format!("listening   {}", joined(member(status, "listen"))),
        format!("generation  {}", member(status, "generation")),
        format!("operations  {}", member(status, "operations")),
        format!("bans        {} ({})", member(status, "bans"), text(member(status, "ban_mode"))),
        format!("pins        {}", text(member(status, "pins"))),
        format!("state       {}", text(member(status, "state"))),
    ];
    let loader = member(status, "loader");
    if let Some(socket) = member(loader, "socket").as_str() {
        let pid = member(loader, "pid").as_u64().map(|pid| format!("process {pid} at "));
        let pid = pid.unwrap_or_else(|| "none at ".to_owned());
        lines.push(format!("loader      {pid}{socket}"));
    }
    if let Some(seconds) = member(member(status, "panic_allow"), "remaining_seconds").as_u64() {
        lines.push(format!("PANIC       everything passes for {seconds} s more"));
    }
    let unconfirmed = member(status, "unconfirmed");
    if let Some(seconds) = member(unconfirmed, "generation_seconds").as_u64() {
        lines.push(format!("confirm     this generation, within {seconds} s"));
    }
    for target in member(unconfirmed, "bans").as_array().into_iter().flatten() {
        lines.push(format!("confirm     the ban of {}", text(target)));
    }
    if member(status, "degraded") == true {
        lines.push("degraded    a required interface is not attached to".into());
    }
    for reason in member(status, "reasons").as_array().into_iter().flatten() {
        lines.push(format!("            {}", text(reason)));
    }
    for interface in member(status, "interfaces").as_array().into_iter().flatten() {
        let mode = text(member(interface, "mode"));
        let reason = member(interface, "reason").as_str().map(|reason| format!(" ({reason})"));
        let (name, role) = (text(member(interface, "name")), text(member(interface, "role")));
        let required = if member(interface, "required") == true { ", required" } else { "" };
        let reason = reason.unwrap_or_default();
        lines.push(format!("interface   {name}: {mode}, {role}{required}{reason}"));
    }
    for allowed in member(status, "allowlist").as_array().into_iter().flatten() {
        let (network, source) = (text(member(allowed, "network")), text(member(allowed, "source")));
        lines.push(format!("allowed     {network} ({source})"));
    }
    for (reason, counted) in member(status, "packets").as_object().into_iter().flatten() {
        if member(counted, "packets").as_u64().is_some_and(|packets| packets > 0) {
            let (packets, bytes) = (member(counted, "packets"), member(counted, "bytes"));
            lines.push(format!("packets     {reason}: {packets} ({bytes} octets)"));
        }
    }
    lines.join("\n")
}

fn joined(list: &Value) -> String {
    list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// What `firewall ban list` prints.
pub fn bans_text(bans: &Value) -> String {
    let mut lines = vec![format!(
        "{:<43} {:>10} {:>10} {:<9} {:<10} {}",
        "TARGET", "REMAINING", "DROPS", "PLANES", "ORIGIN", "REASON"
    )];
    for ban in bans.as_array().into_iter().flatten() {
        let remaining = member(ban, "remaining_seconds")
            .as_u64()
            .map_or_else(|| "for ever".into(), |seconds| format!("{seconds} s"));
        let drops = member(ban, "drops").as_u64().unwrap_or(0);
        lines.push(format!(
            "{:<43} {remaining:>10} {drops:>10} {:<9} {:<10} {}",
            text(member(ban, "target")),
            text(member(ban, "planes")),
            text(member(ban, "origin")),
            text(member(ban, "reason")),
        ));
    }
    lines.join("\n")
}

/// What `firewall ban del` prints.
pub fn lifted_text(answer: &Value) -> String {
    let target = text(member(answer, "target"));
    let lifted = member(answer, "lifted");
    match member(lifted, "joined").as_u64() {
        Some(joined) if text(member(lifted, "target")) != target => format!(
            "lifted {target}, which {} covered, an aggregate of {joined} bans",
            text(member(lifted, "target"))
        ),
        _ => format!("lifted {target}"),
    }
}

/// What `firewall allow list` prints.
pub fn allowlist_text(allowlist: &Value) -> String {
    let mut lines = vec![format!("{:<43} {}", "NETWORK", "SOURCE")];
    for allowed in allowlist.as_array().into_iter().flatten() {
        let (network, source) = (text(member(allowed, "network")), text(member(allowed, "source")));
        lines.push(format!("{network:<43} {source}"));
    }
    lines.join("\n")
}

/// What `firewall confirm` prints.
pub fn confirmed_text(confirmed: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(generation) = member(confirmed, "generation").as_u64() {
        lines.push(format!("generation {generation} stays"));
    }
    for target in member(confirmed, "bans").as_array().into_iter().flatten() {
        lines.push(format!("the ban of {} stays", text(target)));
    }
    if lines.is_empty() {
        lines.push("there was nothing to confirm".into());
    }
    lines.join("\n")
}

/// What `firewall feed …` prints.
pub fn feeds_text(feeds: &Value) -> String {
    let mut lines = vec![format!(
        "{:<20} {:<8} {:>9} {:>11} {:<7} {}",
        "FEED", "ACTION", "ENTRIES", "AGE", "KERNEL", "ORIGIN"
    )];
    for feed in feeds.as_array().into_iter().flatten() {
        let age = member(feed, "age_seconds").as_u64();
        let age = age.map_or_else(|| "never".into(), |seconds| format!("{seconds} s"));
        let in_kernel = member(feed, "in_kernel").as_bool().unwrap_or(false);
        lines.push(format!(
            "{:<20} {:<8} {:>9} {age:>11} {:<7} {}",
            text(member(feed, "name")),
            text(member(feed, "action")),
            member(feed, "entries"),
            if in_kernel { "yes" } else { "no" },
            text(member(feed, "origin")),
        ));
        for (key, title) in [
            ("problem", "not renewed"),
            ("kernel_problem", "not in the kernel"),
            ("held", "waits to be accepted"),
        ] {
            if let Some(why) = member(feed, key).as_str() {
                lines.push(format!("  {title}: {why}"));
            }
        }
        for (key, title) in [("too_wide", "entries too wide"), ("broken", "broken lines")] {
            if let Some(count) = member(feed, key).as_u64().filter(|count| *count > 0) {
                lines.push(format!("  {title}: {count}"));
            }
        }
    }
    lines.join("\n")
}

/// What `firewall explain` prints.
pub fn explanation_text(explanation: &Value) -> String {
    let mut lines = vec![text(member(explanation, "verdict"))];
    for (key, title) in [
        ("ban", "ban"),
        ("feeds", "feeds"),
        ("kernel", "kernel map"),
        ("exempt", "exempt"),
        ("allowed_as", "allowed as"),
        ("sampled", "packets sampled lately"),
    ] {
        let value = member(explanation, key);
        if !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) {
            lines.push(format!("  {title}: {}", text(member(explanation, key))));
        }
    }
    lines.push(format!(
        "  score: {} of {}",
        member(explanation, "score"),
        member(explanation, "threshold")
    ));
    lines.join("\n")
}
