//! `exuvia info`: shows the node as a whole.

use exuvia_api::Info;

use crate::error::CliError;
use crate::output::{Output, Tone, bytes, clean};
use crate::place::Place;
use crate::table::{Align, Table};

/// Show the node and its modules
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia info\n  exuvia info --json | jq .release")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), CliError> {
    let client = place.client()?;
    let info = client.info().await?;
    if output.is_json() {
        return output.value(&info.json);
    }
    let socket = client.place();
    show(&info.value, &socket, output)
}

fn show(info: &Info, socket: &str, output: &Output) -> Result<(), CliError> {
    let facts = [
        ("app", info.app.clone()),
        ("node", info.node.clone()),
        ("socket", socket.to_owned()),
        ("uptime", uptime(info.uptime_ms)),
        ("release", info.release.to_string()),
        (
            "processes",
            match info.processes_limit {
                0 => info.processes.to_string(),
                most => format!("{} of {most}", info.processes),
            },
        ),
        ("schedulers", info.schedulers.to_string()),
        (
            "frames",
            format!(
                "{} ({} blocked, {} free), {} of {}",
                info.frames,
                info.frames_blocked,
                info.frames_free,
                bytes(info.frame_bytes),
                bytes(info.frame_bytes_limit),
            ),
        ),
        (
            "paging",
            format!(
                "{} in ({}), {} out ({}), {:.1} % hits, by {}",
                info.page_ins,
                microseconds(info.page_in_ns),
                info.page_outs,
                microseconds(info.page_out_ns),
                info.hit_rate * 100.0,
                info.page_map
            ),
        ),
    ];
    for (name, fact) in facts {
        let name = output.paint(Tone::Strong, &format!("{name:<10}"));
        output.line(&format!("{name}  {}", clean(&fact)))?;
    }
    if info.frame_failures > 0 {
        let word = output.paint(Tone::Warning, "no memory");
        output.line(&format!(
            "{word}: {} frames could not be created; the node's log says why",
            info.frame_failures
        ))?;
    }
    if info.modules.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("MODULE", Align::Left),
        ("VERSION", Align::Right),
        ("DIGEST", Align::Left),
        ("SCHEMA", Align::Right),
        ("SIZE", Align::Right),
        ("PROCESSES", Align::Right),
        ("LOADED", Align::Left),
    ]);
    for module in &info.modules {
        let loaded: Vec<String> = module
            .loaded
            .iter()
            .map(|version| format!("{} ({})", version.version, version.processes))
            .collect();
        table.row([
            module.name.clone(),
            module.version.to_string(),
            module.digest.clone(),
            module.schema.to_string(),
            bytes(module.bytes),
            module.processes.to_string(),
            loaded.join(" "),
        ]);
    }
    let (heading, rows) = table.lines();
    output.line("")?;
    output.line(&output.paint(Tone::Strong, &heading))?;
    for (row, module) in rows.iter().zip(&info.modules) {
        output.line(row)?;
        for why in &module.resident_only {
            let word = output.paint(Tone::Warning, "resident only");
            output.line(&format!("  {word}: {}", clean(why)))?;
        }
    }
    Ok(())
}

fn microseconds(nanoseconds: u64) -> String {
    format!("{}.{} us", nanoseconds / 1000, nanoseconds % 1000 / 100)
}

fn uptime(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::{microseconds, uptime};

    #[test]
    fn short_times_have_one_digit() {
        assert_eq!(microseconds(0), "0.0 us");
        assert_eq!(microseconds(1_990), "1.9 us");
        assert_eq!(microseconds(123_050), "123.0 us");
    }

    #[test]
    fn uptimes_have_two_units() {
        assert_eq!(uptime(999), "0 s");
        assert_eq!(uptime(61_000), "1 min 1 s");
        assert_eq!(uptime(3_600_000), "1 h 0 min");
        assert_eq!(uptime(90_000_000), "1 d 1 h");
    }
}
