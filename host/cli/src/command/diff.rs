//! `exuvia diff`: what differs between two releases.

use exuvia_api::{Client, Release, ReleaseModule};
use serde_json::json;

use crate::command::check;
use crate::error::{CliError, Exit};
use crate::output::{Output, bytes, count};
use crate::place::Place;

/// Compare two releases
///
/// For each module that differs: what happens to state and messages if the code of the second
/// release follows that of the first, as `exuvia check OLD NEW` says it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia diff 4                   from release 4 to the current one
  exuvia diff 4 6")]
pub(crate) struct Arguments {
    /// The older release, as `exuvia releases` shows it
    #[arg(value_name = "FROM")]
    from: u64,
    /// The newer one [default: the current one]
    #[arg(value_name = "TO")]
    newer: Option<u64>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let client = place.client()?;
    let releases = client.releases().await?.value.items;
    let find = |number: u64| {
        let found = releases.iter().find(|release| release.release == number);
        found.ok_or_else(|| no_release(number))
    };
    let from = find(arguments.from)?;
    let to = match arguments.newer {
        Some(number) => find(number)?,
        None => match releases.iter().find(|release| release.current) {
            Some(current) => current,
            None => return Err(CliError::failed("the node has no release yet")),
        },
    };
    let mut same = 0;
    for (name, old, new) in modules(from, to) {
        match (old, new) {
            (Some(old), Some(new)) if old.digest == new.digest => same += 1,
            (Some(_), Some(_)) => changed(&client, name, from, to, output).await?,
            (old, new) => {
                let (word, module) = match new {
                    Some(new) => ("new", new),
                    None => (
                        "gone",
                        old.unwrap_or_else(|| unreachable!("it is of one of the two")),
                    ),
                };
                if output.is_json() {
                    output.value(&json!({ "module": name, "change": word }))?;
                    continue;
                }
                let size = module.bytes.map(bytes).unwrap_or_default();
                output.line(&format!("{word} {name}  {} {size}", module.digest))?;
            }
        }
    }
    if output.is_json() {
        output.value(&json!({ "same": same }))?;
    } else {
        let same = count(same, "module is", "modules are");
        output.line(&format!("{same} the same"))?;
    }
    Ok(())
}

/// Returns the names of all modules of two releases, each with what they have of it.
fn modules<'a>(
    from: &'a Release,
    to: &'a Release,
) -> Vec<(
    &'a str,
    Option<&'a ReleaseModule>,
    Option<&'a ReleaseModule>,
)> {
    let all = from.modules.iter().chain(&to.modules);
    let mut names: Vec<&str> = all.map(|module| module.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |release: &'a Release, name: &str| {
        release.modules.iter().find(|module| module.name == name)
    };
    let names = names.into_iter();
    names
        .map(|name| (name, of(from, name), of(to, name)))
        .collect()
}

async fn changed(
    client: &Client,
    name: &str,
    from: &Release,
    to: &Release,
    output: &Output,
) -> Result<(), CliError> {
    let old = client.module_of(from.release, name).await?;
    let new = client.module_of(to.release, name).await?;
    let of = |release: &Release| format!("{name} of release {}", release.release);
    check::compare((&of(from), &old), (&of(to), &new), output)
}

fn no_release(number: u64) -> CliError {
    CliError::new(
        Exit::Failed,
        "no_release",
        format!("there is no release {number}"),
    )
    .help("`exuvia releases` shows those that there are")
}
