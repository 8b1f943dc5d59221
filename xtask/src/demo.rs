//! `cargo xtask demo`: the whole firewall at work, on this machine, with nothing to install.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::client::{Call, Seen};
use self::daemon::{Daemon, Status};
use self::network::Network;
use crate::end::End;
use crate::lab::Topology;
use crate::report::{Stopwatch, say};
use crate::{project, skip};

mod api;
mod client;
mod daemon;
mod network;

/// What is to be shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct Options {
    /// Show everything once, end at the first thing that is not as it should be, and do not stay up
    #[arg(long)]
    check: bool,
}

/// Who is who among the clients.
const CUSTOMER: u8 = 0;
const SCANNER: u8 = 1;
/// Makes mistakes, but too few to be banned.
const BEGINNER: u8 = 2;

/// The firewall may read its counters at intervals.
const COUNT_PATIENCE: Duration = Duration::from_secs(5);

/// What a scanner asks for.
const SCANNED_PATHS: [&str; 3] = ["/.env", "/wp-login.php", "/actuator/heapdump"];

/// A placed order, but for how many kettles.
fn order(kettles: i32) -> String {
    serde_json::json!({
        "customer": {"email": "ada@example.org"},
        "shipTo": {
            "name": "Ada", "street": "1 Engine Row", "city": "London", "postcode": "W1J 7NT",
            "country": "GB",
        },
        "lines": [{"product": 1, "quantity": kettles}],
        "payment": {"method": "transfer", "iban": "GB33BUKB20201555555555"},
    })
    .to_string()
}

/// Builds the firewall, shows it at work, and stays up until Ctrl-C unless told otherwise.
pub fn run(options: Options) -> Result<()> {
    let time = Stopwatch::start();
    let end = End::listen()?;
    say("Building the firewall …");
    let program = project::build_firewall()?;
    say(format_args!("Built in {time}.\n"));

    let mut missing = Vec::new();
    let network = match Topology::new() {
        Ok(lab) => {
            say("Three network namespaces: client ─ gateway ─ API.");
            Network::Lab(lab)
        }
        Err(error) if error.is_unavailable() => {
            say(format_args!("On the loopback interface only: {error}."));
            missing.push(format!("dropping packets in the kernel: {error}"));
            Network::Loopback
        }
        Err(error) => return Err(error).context("making the demonstration's network"),
    };
    let network = Rc::new(network);
    let upstream = api::serve(network.api()?)?;
    let document = project::root().join("firewall/examples/shop.yaml");
    let (daemon, status) = Daemon::start(&program, &document, &network, upstream, &end)?;
    if let Network::Lab(_) = *network
        && status.mode != "xdp-native"
    {
        let reasons = status.reasons.join("; ");
        missing.push(format!("dropping packets natively: mode is {}: {reasons}", status.mode));
    }
    let gateway = status.listen.unwrap_or_else(|| network.listen());
    let mut stage = Stage { options, end, daemon, network, gateway, failures: 0 };
    stage.introduce(&status);
    let shown = stage.play(status.mode != "l7-only");
    if shown.is_err() {
        say(format_args!("\nThe firewall's last words:\n{}", stage.daemon.log()));
    } else if !options.check {
        stage.stay_up()?;
    }
    stage.daemon.stop().context("stopping the firewall")?;
    let failures = stage.failures;
    drop(stage);

    shown?;
    say(format_args!("\nDone in {time}."));
    for what in &missing {
        say(format_args!("NOT SHOWN: {what}"));
    }
    ensure!(failures == 0, "{failures} things were not as they should be");
    ensure!(
        missing.is_empty() || !skip::required(),
        "everything must be shown here: FIREWALL_REQUIRE_KERNEL or CI is set"
    );
    Ok(())
}

/// Everything that is up while the demonstration is played.
#[derive(Debug)]
struct Stage {
    options: Options,
    end: End,
    /// Stopped before the network goes.
    daemon: Daemon,
    network: Rc<Network>,
    gateway: SocketAddr,
    failures: usize,
}

impl Stage {
    fn introduce(&self, status: &Status) {
        say(format_args!("The firewall listens on {}, in mode {}.\n", self.gateway, status.mode));
    }

    fn play(&mut self, in_kernel: bool) -> Result<()> {
        self.show_contract()?;
        self.show_ban(in_kernel)
    }

    /// One thing shown: what was seen, or what should have been.
    fn step(&mut self, what: &str, outcome: Result<String>) -> Result<()> {
        self.end.not_yet()?;
        match outcome {
            Ok(seen) => {
                say(format_args!("✓ {what}\n    {seen}"));
                Ok(())
            }
            Err(error) if self.options.check => Err(error.context(format!("✗ {what}"))),
            Err(error) => {
                self.failures += 1;
                say(format_args!("✗ {what}\n    {error:#}"));
                Ok(())
            }
        }
    }

    fn client(&self, client: u8) -> IpAddr {
        self.network.client(client)
    }

    fn send(&self, client: u8, call: Call<'_>) -> Result<Seen> {
        client::send(&self.network, self.client(client), self.gateway, call)
    }

    /// Sends a request and tells what came of it, if it is what `expect` expects.
    fn exchange(
        &self,
        client: u8,
        call: Call<'_>,
        expect: impl FnOnce(&Seen) -> Result<()>,
    ) -> Result<String> {
        let seen = self.send(client, call)?;
        expect(&seen).with_context(|| format!("{call} from {}", self.client(client)))?;
        Ok(format!("{} ► {call} ► {seen}", self.client(client)))
    }

    fn show_contract(&mut self) -> Result<()> {
        let seen =
            self.exchange(CUSTOMER, get("/products?limit=10"), |seen| seen.answered(200).map(drop));
        self.step("A good call passes", seen)?;

        let seen = self.exchange(CUSTOMER, post(&order(2)), |seen| seen.answered(201).map(drop));
        self.step("So does a good order", seen)?;

        let seen = self.exchange(BEGINNER, post(&order(-2)), |seen| {
            seen.refused(400, "body.schema", Some("/lines/0/quantity"))
        });
        self.step("A bad body is refused: an order for -2 kettles", seen)?;

        let seen = self.exchange(BEGINNER, get("/admin"), |seen| {
            seen.refused(404, "route.unknown-path", None)
        });
        self.step("An unknown path is refused", seen)?;

        let product = format!("/products/{}", api::INDISCREET_PRODUCT);
        let seen = self.exchange(CUSTOMER, get(&product), |seen| {
            seen.refused(502, "response.schema", Some(""))
        });
        self.step("An undeclared response is refused: the API let slip its purchase price", seen)
    }

    fn show_ban(&mut self, in_kernel: bool) -> Result<()> {
        let seen = SCANNED_PATHS
            .iter()
            .map(|path| {
                self.exchange(SCANNER, get(path), |seen| {
                    seen.refused(404, "route.unknown-path", None)
                })
            })
            .collect::<Result<Vec<_>>>();
        self.step("A scanner tries three doors", seen.map(|seen| seen.join("\n    ")))?;

        let seen = self.banned_for();
        self.step("It is banned after its third offence", seen)?;

        let seen = self.shut_out(in_kernel);
        let what = if in_kernel {
            "Its packets are dropped in the kernel: its next connection times out"
        } else {
            "Its next connection is turned away at accept"
        };
        self.step(what, seen)?;

        let seen = self.exchange(CUSTOMER, get("/products"), |seen| seen.answered(200).map(drop));
        self.step("Another client notices nothing", seen)?;

        let scanner = self.client(SCANNER);
        let seen = self.daemon.lift_ban(scanner).and_then(|()| {
            self.exchange(SCANNER, get("/products"), |seen| seen.answered(200).map(drop))
        });
        self.step(&format!("The operator lifts the ban (firewall ban del {scanner})"), seen)
    }

    fn banned_for(&self) -> Result<String> {
        let scanner = self.client(SCANNER);
        let Some(ban) = self.daemon.ban(scanner)? else {
            bail!("expected a ban of {scanner}, saw none; the last request was refused, though");
        };
        ensure!(
            ban.rule == "route.unknown-path",
            "expected a ban for route.unknown-path, saw one for {:?}",
            ban.rule
        );
        Ok(format!("{scanner} for {:.0} s, by {}", ban.remaining_seconds, ban.rule))
    }

    fn shut_out(&self, in_kernel: bool) -> Result<String> {
        let before = self.daemon.status()?.banned_packets;
        let seen = self.send(SCANNER, get("/products"))?;
        let scanner = self.client(SCANNER);
        if !in_kernel {
            ensure!(seen.shut_out(), "expected no service for {scanner}, saw {seen}");
            return Ok(format!("{scanner} ► GET /products ► {seen}"));
        }
        ensure!(
            matches!(seen, Seen::ConnectTimeout),
            "expected the connection of {scanner} to time out, saw {seen}"
        );
        let waiting = Stopwatch::start();
        let dropped = loop {
            let dropped = self.daemon.status()?.banned_packets.saturating_sub(before);
            if dropped > 0 {
                break dropped;
            }
            ensure!(
                waiting.elapsed() < COUNT_PATIENCE,
                "expected dropped packets to be counted, saw none"
            );
        };
        let drops = self.daemon.ban(scanner)?.map_or(0, |ban| ban.drops);
        Ok(format!(
            "{scanner} ► GET /products ► {seen}\n    \
             the XDP program dropped {dropped} packets; of this ban it counted {drops} so far"
        ))
    }

    /// Leaves everything up for the operator to try, until it is told to end.
    fn stay_up(&self) -> Result<()> {
        let status = self.daemon.status()?;
        let scanner = self.client(SCANNER);
        let (client, gateway) = match &*self.network {
            Network::Lab(lab) => (
                format!("nsenter --net={} ", lab.client.path()),
                format!("nsenter --net=/proc/{}/ns/net ", self.daemon.process()),
            ),
            Network::Loopback => (String::new(), String::new()),
        };
        let metrics = status.metrics.unwrap_or_else(|| self.network.metrics());
        say("\nEverything stays up until Ctrl-C. In another terminal:\n");
        for words in ["status", "ban list", &format!("explain {scanner}")] {
            say(format_args!("  {}", self.daemon.command_line(words)));
        }
        say(format_args!("  {}", self.daemon.command_line(&format!("ban add {scanner}"))));
        say(format_args!("  {client}curl --interface {scanner} http://{}/products", self.gateway));
        if metrics.port() != 0 {
            say(format_args!("  {gateway}curl http://{metrics}/metrics"));
        }
        say(format_args!("  tail -f {}", self.daemon.log_file().display()));
        self.end.wait();
        say("\nClearing away …");
        Ok(())
    }
}

fn get(path: &str) -> Call<'_> {
    Call { method: "GET", path, field: None, body: None }
}

fn post(order: &str) -> Call<'_> {
    let field = ("idempotency-key", "6f1e3b0a-8d57-4c6e-9a40-2f1d5c7b9e11");
    Call { method: "POST", path: "/orders", field: Some(field), body: Some(order) }
}
