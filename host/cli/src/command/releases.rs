//! `exuvia releases`: the log of releases.

use exuvia_api::{Logged, Outcome, Release, ReleaseOrigin};

use crate::error::CliError;
use crate::output::{Output, Tone, count};
use crate::place::Place;
use crate::table::{Align, Table};
use crate::text::age;

/// List the releases of an app
///
/// Newest first: all that are kept, with what they changed and what became of them. `*` is the
/// current one. Without a release store, those that can be rolled back to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia releases
  exuvia releases --json | jq '.items[0].logged'")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), CliError> {
    let list = place.client()?.releases().await?;
    if output.is_json() {
        return output.value(&list.json);
    }
    let items = &list.value.items;
    let mut table = Table::new(&[
        ("RELEASE", Align::Right),
        ("", Align::Left),
        ("AGE", Align::Right),
        ("FROM", Align::Left),
        ("BY", Align::Left),
        ("CHANGES", Align::Left),
        ("RESULT", Align::Left),
        ("MESSAGE", Align::Left),
    ]);
    for (position, release) in items.iter().enumerate() {
        let logged = release.logged.as_ref();
        let of = |text: &dyn Fn(&Logged) -> String| logged.map_or_else(String::new, text);
        table.row([
            release.release.to_string(),
            marks(release).to_owned(),
            of(&|logged| age(logged.at_ms)),
            of(&|logged| from(logged, release.origin)),
            of(&|logged| logged.author.clone()),
            changes(release, items.get(position + 1)),
            of(&|logged| result(&logged.outcome)),
            of(&|logged| logged.message.clone()),
        ]);
    }
    let (heading, rows) = table.lines();
    output.line(&output.paint(Tone::Strong, &heading))?;
    for (row, release) in rows.iter().zip(items) {
        match release.current {
            true => output.line(&output.paint(Tone::Strong, row))?,
            false => output.line(row)?,
        }
    }
    Ok(())
}

fn marks(release: &Release) -> &'static str {
    let is_pinned = release.logged.as_ref().is_some_and(|logged| logged.pinned);
    match (release.current, is_pinned) {
        (true, true) => "* pinned",
        (true, false) => "*",
        (false, true) => "pinned",
        (false, false) => "",
    }
}

fn from(logged: &Logged, origin: u64) -> String {
    match logged.from {
        ReleaseOrigin::Files => "files".to_owned(),
        ReleaseOrigin::Deploy => "deploy".to_owned(),
        ReleaseOrigin::Rollback => format!("rollback to {origin}"),
        ReleaseOrigin::Failure => format!("failure, back to {origin}"),
    }
}

/// Returns which modules a release has that the one before it has not.
fn changes(release: &Release, before: Option<&Release>) -> String {
    let Some(before) = before else {
        return count(release.modules.len() as u64, "module", "modules");
    };
    let has = |release: &Release, name: &str, digest: &str| {
        let mut modules = release.modules.iter();
        modules.any(|module| module.name == name && module.digest == digest)
    };
    let new = release.modules.iter();
    let new = new.filter(|module| !has(before, &module.name, &module.digest));
    let new = new.map(|module| format!("{} {}", module.name, module.digest));
    let gone = before.modules.iter();
    let gone = gone.filter(|module| !release.modules.iter().any(|it| it.name == module.name));
    let gone = gone.map(|module| format!("-{}", module.name));
    new.chain(gone).collect::<Vec<_>>().join(", ")
}

fn result(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed => "committed".to_owned(),
        Outcome::Complete {
            upgraded,
            failed,
            reverted,
        } => {
            let mut text = format!("{upgraded} upgraded");
            for (number, what) in [(failed, "failed"), (reverted, "reverted")] {
                if *number > 0 {
                    text += &format!(", {number} {what}");
                }
            }
            text
        }
        Outcome::RolledBack { by } => format!("rolled back by {by}"),
    }
}
