//! `exuvia login`, `logout` and `hosts`: nodes on other machines, as this user knows them.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use exuvia_api::{Client, ClientError, Fingerprint, RemoteNode, code, fingerprint_of};
use serde_json::json;

use crate::error::CliError;
use crate::hosts::Hosts;
use crate::output::{Output, Tone, clean};
use crate::place::Place;
use crate::table::{Align, Table};

/// Get to know a node on another machine
///
/// Shows the fingerprint of its certificate, as ssh does: compare it with the one in the node's
/// line `started`. From then on, nothing is sent to anybody who has another certificate. The
/// token is read from the standard input; `exuvia token new` on the node's machine makes one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia login shop-1.example:4950 --name shop-1
  exuvia ps --to shop-1
  exuvia login 10.0.0.7:4950 --name shop-2 --fingerprint sha256:9f86d0... < token.txt")]
pub(crate) struct Arguments {
    /// Its host and port, as in its line `started`
    #[arg(value_name = "ADDR")]
    address: String,
    /// What it is called from now on, with `--to` [default: its host]
    #[arg(long)]
    name: Option<String>,
    /// The fingerprint that its certificate has, so that nothing is asked
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<Fingerprint>,
}

/// Forget a node on another machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia logout shop-1")]
pub(crate) struct Logout {
    /// Its name, as `exuvia hosts` shows it
    name: String,
}

/// List the nodes on other machines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia hosts")]
pub(crate) struct List {}

pub(crate) async fn login(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    place.check_here()?;
    let address = arguments.address;
    let is_plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    if !is_plain(&address) || !address.contains(':') {
        return Err(CliError::usage(format!(
            "`{}` is not HOST:PORT",
            clean(&address)
        )));
    }
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let name = arguments.name.unwrap_or_else(|| host.to_owned());
    if !is_plain(&name) {
        return Err(CliError::usage(
            "a name consists of visible characters of ASCII",
        ));
    }
    let mut hosts = Hosts::load()?;
    let seen = fingerprint_of(&address).await?;
    if let Ok(known) = hosts.get(&name)
        && known.fingerprint != seen
    {
        let (before, address) = (known.fingerprint, clean(&known.address));
        return Err(CliError::failed(format!(
            "`{name}` is known as {address} with the certificate {before}, and this is {seen}"
        ))
        .help(format!(
            "nothing was sent. If that is another node, choose another --name; if it is the same one with a new certificate, `exuvia logout {name}` first"
        )));
    }
    match arguments.fingerprint {
        Some(expected) if expected == seen => {}
        Some(expected) => {
            return Err(ClientError::Stranger {
                address,
                expected,
                seen,
            }
            .into());
        }
        None => confirm(&address, seen)?,
    }
    let node = RemoteNode {
        address,
        fingerprint: seen,
        token: token()?,
    };
    // Whether the token is good. An app that is not up yet is no reason to refuse it.
    match Client::remote(node.clone()).ready().await {
        Ok(()) => {}
        Err(ClientError::Node(problem)) if problem.code == code::NOT_READY => {}
        Err(error) => return Err(error.into()),
    }
    hosts.insert(&name, node);
    hosts.save()?;
    match output.is_json() {
        true => output.value(&json!({ "name": name, "fingerprint": seen.to_string() })),
        false => output.line(&format!("logged in: `--to {name}` reaches it")),
    }
}

/// Asks whether the fingerprint is the right one.
fn confirm(address: &str, seen: Fingerprint) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!(
            "nobody can be asked whether {seen} is the certificate of {address}"
        ))
        .help("name the fingerprint that the node shows with --fingerprint"));
    }
    eprint!("{address} has the certificate\n  {seen}\nDoes the node show the same? [y/N] ");
    let _ = std::io::stderr().flush();
    match line()?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::failed("not logged in; nothing was sent")),
    }
}

fn token() -> Result<String, CliError> {
    let token = match std::io::stdin().is_terminal() {
        // Not shown, and not left in what the terminal keeps.
        true => rpassword::prompt_password("Token: ")
            .map(|token| token.trim().to_owned())
            .map_err(|error| CliError::failed(format!("the terminal cannot be read: {error}")))?,
        false => line()?,
    };
    match token.is_empty() || !token.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Err(CliError::usage("this is no token")
            .help("`exuvia token new NAME --role ROLE` on the node's machine makes one")),
        false => Ok(token),
    }
}

fn line() -> Result<String, CliError> {
    /// A token has 80 bytes.
    const LONGEST: u64 = 4096;
    let mut text = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), LONGEST);
    let read = input.read_line(&mut text);
    read.map_err(|error| CliError::failed(format!("the standard input cannot be read: {error}")))?;
    Ok(text.trim().to_owned())
}

pub(crate) fn logout(arguments: &Logout, output: &Output) -> Result<(), CliError> {
    let mut hosts = Hosts::load()?;
    // Its error says what there is.
    hosts.get(&arguments.name)?;
    hosts.remove(&arguments.name);
    hosts.save()?;
    match output.is_json() {
        true => output.value(&json!({ "name": arguments.name })),
        false => {
            output.line("forgotten; the token is good until it is revoked (`exuvia token revoke`)")
        }
    }
}

pub(crate) fn list(output: &Output) -> Result<(), CliError> {
    let hosts = Hosts::load()?;
    if output.is_json() {
        let all: Vec<_> = hosts
            .all()
            .map(|(name, node)| {
                let fingerprint = node.fingerprint.to_string();
                json!({ "name": name, "address": node.address, "fingerprint": fingerprint })
            })
            .collect();
        return output.value(&json!({ "items": all }));
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("ADDRESS", Align::Left),
        ("CERTIFICATE", Align::Left),
    ]);
    for (name, node) in hosts.all() {
        table.row([
            name.to_owned(),
            node.address.clone(),
            node.fingerprint.to_string(),
        ]);
    }
    let (heading, rows) = table.lines();
    output.line(&output.paint(Tone::Strong, &heading))?;
    rows.iter().try_for_each(|row| output.line(row))
}
