//! `exuvia token`: the tokens that clients on other machines show to a node.

use std::time::Duration;

use exuvia_api::{NewToken, Role, Token};
use exuvia_manifest::parse_duration;

use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::place::Place;
use crate::table::{Align, Table};
use crate::text::{age, until};

/// Make, list and revoke the tokens of a node
///
/// A client on another machine shows one (`exuvia login`). The node keeps a hash of it, so it is
/// shown once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia token new ci --role deploy --module cart --expires 90d
  exuvia token new gateway --role call --process 'user-*'
  exuvia token list
  exuvia token revoke 4f2a90c1d3e5")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a token, and print it
    New {
        /// Who it is for, as logs are to name it
        name: String,
        /// What its holder may do: call, read, operate, deploy or admin
        #[arg(long)]
        role: Role,
        /// Only for processes with this name, where `*` at the end stands for any rest
        #[arg(long = "process", value_name = "NAME")]
        processes: Vec<String>,
        /// Only for deployments of this module
        #[arg(long = "module", value_name = "MODULE")]
        modules: Vec<String>,
        /// When it expires, from now [default: never]
        #[arg(long, value_name = "TIME", value_parser = expiry)]
        expires: Option<Duration>,
    },
    /// List the tokens, without their secrets
    List,
    /// Make a token worthless, at once
    Revoke {
        /// Its id, as `list` shows it
        id: String,
    },
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let client = place.client()?;
    match arguments.what {
        What::New {
            name,
            role,
            processes,
            modules,
            expires,
        } => {
            let asked = NewToken {
                name,
                role,
                names: processes,
                modules,
                // A part of a second is one, too.
                expires_in_s: expires.map(|it| it.as_secs() + u64::from(it.subsec_nanos() > 0)),
            };
            let made = client.new_token(&asked).await?;
            match output.is_json() {
                true => output.value(&made.json),
                false => output.line(&made.value.token),
            }
        }
        What::List => {
            let list = client.tokens().await?;
            match output.is_json() {
                true => output.value(&list.json),
                false => show(&list.value.items, output),
            }
        }
        What::Revoke { id } => {
            let gone = client.revoke_token(&id).await?;
            match output.is_json() {
                true => output.value(&gone.json),
                false => output.line(&format!("revoked the token of {}", gone.value.name)),
            }
        }
    }
}

fn show(tokens: &[Token], output: &Output) -> Result<(), CliError> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("NAME", Align::Left),
        ("ROLE", Align::Left),
        ("FOR", Align::Left),
        ("AGE", Align::Right),
        ("EXPIRES", Align::Right),
    ]);
    for token in tokens {
        let processes = token.names.iter().map(|name| format!("process {name}"));
        let modules = token.modules.iter().map(|name| format!("module {name}"));
        let scope: Vec<String> = processes.chain(modules).collect();
        table.row([
            token.id.clone(),
            token.name.clone(),
            token.role.to_string(),
            if scope.is_empty() {
                "all".to_owned()
            } else {
                scope.join(", ")
            },
            age(token.created_ms),
            token.expires_ms.map_or_else(|| "never".to_owned(), until),
        ]);
    }
    let (heading, rows) = table.lines();
    output.line(&output.paint(Tone::Strong, &heading))?;
    rows.iter().try_for_each(|row| output.line(row))
}

/// Parses a time, also in days.
fn expiry(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) => Ok(Duration::from_secs(days.saturating_mul(86_400))),
        _ => parse_duration(text).map_err(|error| error.to_string()),
    }
}
