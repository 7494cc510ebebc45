//! The node's metrics as text in Prometheus' format. Each name, type and description is defined
//! in one table; `docs/cli.md` lists them too.

use std::fmt::Write as _;

use exuvia_api::Info;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A metric: its name, type and description, and its samples, each a label and a value.
struct Metric<'a> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    values: Vec<(Option<(&'static str, &'a str)>, f64)>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows.
    Counter,
}

/// Returns all metrics in Prometheus' text format.
pub(crate) fn text(info: &Info) -> String {
    let mut text = String::new();
    for metric in metrics(info) {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let Metric { name, help, .. } = metric;
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (label, value) in metric.values {
            let _ = match label {
                None => writeln!(text, "{name} {value}"),
                Some((label, of)) => {
                    writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped(of))
                }
            };
        }
    }
    text
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format knows floating-point numbers only"
)]
fn metrics(info: &Info) -> Vec<Metric<'_>> {
    let one = |name, kind, help, value: f64| Metric {
        name,
        kind,
        help,
        values: vec![(None, value)],
    };
    let gauge = |name, help, value: u64| one(name, Kind::Gauge, help, value as f64);
    let counter = |name, help, value: u64| one(name, Kind::Counter, help, value as f64);
    let seconds = |mean_ns: u64, times: u64| mean_ns as f64 * times as f64 / 1e9;
    let (all, blocked, free) = (info.frames, info.frames_blocked, info.frames_free);
    let resident = all.saturating_sub(blocked).saturating_sub(free);
    let modules = info.modules.iter();
    vec![
        gauge("exuvia_processes", "Live processes.", info.processes),
        gauge(
            "exuvia_processes_limit",
            "The limit on live processes.",
            info.most_processes,
        ),
        gauge("exuvia_timers", "Pending timers.", info.timers),
        gauge("exuvia_release", "The current release.", info.release),
        one(
            "exuvia_uptime_seconds",
            Kind::Counter,
            "Seconds since the node's start.",
            info.uptime_ms as f64 / 1e3,
        ),
        Metric {
            name: "exuvia_module_processes",
            kind: Kind::Gauge,
            help: "Processes in the current version of a module.",
            values: modules
                .map(|module| (Some(("module", &*module.name)), module.processes as f64))
                .collect(),
        },
        Metric {
            name: "exuvia_frames",
            kind: Kind::Gauge,
            help: "Frames by state.",
            values: [("resident", resident), ("blocked", blocked), ("free", free)]
                .map(|(state, count)| (Some(("state", state)), count as f64))
                .into(),
        },
        gauge(
            "exuvia_threads_blocked",
            "Threads that a guest blocks in place, while spare threads run as schedulers.",
            info.threads_blocked,
        ),
        gauge(
            "exuvia_frame_bytes",
            "Bytes of memory that frames hold, as last seen.",
            info.frame_bytes,
        ),
        gauge(
            "exuvia_frame_bytes_limit",
            "The limit on bytes of memory that frames hold.",
            info.frame_memory,
        ),
        counter(
            "exuvia_frames_made_total",
            "Frames created.",
            info.frames_made,
        ),
        counter(
            "exuvia_frame_failures_total",
            "Frames that could not be created because the system was out of memory or mappings.",
            info.frame_failures,
        ),
        counter(
            "exuvia_frames_released_total",
            "Times that a frame's memory was freed because frames held too much.",
            info.frames_released,
        ),
        counter("exuvia_page_ins_total", "Images paged in.", info.page_ins),
        counter(
            "exuvia_page_outs_total",
            "Images paged out.",
            info.page_outs,
        ),
        one(
            "exuvia_page_in_seconds_total",
            Kind::Counter,
            "Time of page-ins, including page-outs that free frames for them; one in 64 is timed.",
            seconds(info.page_in_ns, info.page_ins),
        ),
        one(
            "exuvia_page_out_seconds_total",
            Kind::Counter,
            "Time of page-outs; one in 64 is timed.",
            seconds(info.page_out_ns, info.page_outs),
        ),
        counter(
            "exuvia_frame_hits_total",
            "Entries into guests that found the process in a frame.",
            info.frame_hits,
        ),
        one(
            "exuvia_frame_hit_ratio",
            Kind::Gauge,
            "The share of hits in hits and page-ins since the start.",
            info.hit_rate,
        ),
    ]
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let info = serde_json::from_value(json!({
            "app": "a", "node": "1", "release": 3, "processes": 9, "schedulers": 2,
            "frames": 7, "frames_blocked": 2, "frames_free": 1, "frame_bytes": 4096,
            "uptime_ms": 1500, "page_ins": 10, "page_outs": 4, "page_in_ns": 2000,
            "page_map": "scan", "hit_rate": 0.5,
            "modules": [{"name": "a\"b", "version": 1, "digest": "d", "processes": 5, "bytes": 1}],
        }));
        let text = text(&info.unwrap());
        for line in [
            "# TYPE exuvia_frames gauge\nexuvia_frames{state=\"resident\"} 4\nexuvia_frames{state=\"blocked\"} 2\nexuvia_frames{state=\"free\"} 1\n",
            "exuvia_uptime_seconds 1.5\n",
            "exuvia_module_processes{module=\"a\\\"b\"} 5\n",
            "# TYPE exuvia_page_ins_total counter\nexuvia_page_ins_total 10\n",
            "exuvia_page_in_seconds_total 0.00002\n",
            "exuvia_frame_hit_ratio 0.5\n",
            "exuvia_frame_bytes 4096\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        // Each line is a comment, or a name with or without labels, and a number.
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, number) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("exuvia_"), "{line}");
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
    }
}
