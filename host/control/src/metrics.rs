//! The node's metrics for Prometheus, in the text format of OpenMetrics 1.0. Each name, type and
//! description is defined in one table; `docs/api.md` lists them too. They are read from
//! the node at each scrape, so nothing is counted twice.

use std::fmt::{self, Debug};

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{Info, Problem, code};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns all metrics as a response.
pub(crate) fn response(info: Info) -> Result<Response, Problem> {
    let text = text(info).map_err(|error| {
        Problem::new(
            code::INTERNAL,
            format!("the metrics cannot be written: {error}"),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn text(info: Info) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Numbers(info)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The numbers of a node at one moment.
#[derive(Debug)]
struct Numbers(Info);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let info = &self.0;
        let mut table = Table(encoder);
        let seconds = |mean_ns: u64, times: u64| float(mean_ns) * float(times) / 1e9;

        table.gauge("exuvia_processes", "Live processes.", info.processes)?;
        table.gauge(
            "exuvia_processes_limit",
            "The limit on live processes.",
            info.processes_limit,
        )?;
        table.gauge("exuvia_timers", "Pending timers.", info.timers)?;
        table.gauge("exuvia_release", "The current release.", info.release)?;
        table.one(
            "exuvia_uptime_seconds",
            "Seconds since the node's start.",
            &ConstGauge::new(float(info.uptime_ms) / 1e3),
        )?;
        let modules = info.modules.iter();
        table.family(
            "exuvia_module_processes",
            "Processes in the current version of a module.",
            "module",
            modules.map(|module| (module.name.as_str(), module.processes)),
        )?;
        let (all, blocked, free) = (info.frames, info.frames_blocked, info.frames_free);
        let resident = all.saturating_sub(blocked).saturating_sub(free);
        table.family(
            "exuvia_frames",
            "Frames by state.",
            "state",
            [("resident", resident), ("blocked", blocked), ("free", free)],
        )?;
        table.gauge(
            "exuvia_threads_blocked",
            "Threads that a guest blocks in place, while spare threads run as schedulers.",
            info.threads_blocked,
        )?;
        table.gauge(
            "exuvia_frame_bytes",
            "Bytes of memory that frames hold, as last measured.",
            info.frame_bytes,
        )?;
        table.gauge(
            "exuvia_frame_bytes_limit",
            "The limit on bytes of memory that frames hold.",
            info.frame_bytes_limit,
        )?;
        table.counter("exuvia_frames_made", "Frames created.", info.frames_made)?;
        table.counter(
            "exuvia_frame_failures",
            "Frames that could not be created because the system was out of memory or mappings.",
            info.frame_failures,
        )?;
        table.counter(
            "exuvia_frames_released",
            "Times that a frame's memory was freed because frames held too much.",
            info.frames_released,
        )?;
        table.counter("exuvia_page_ins", "Images paged in.", info.page_ins)?;
        table.counter("exuvia_page_outs", "Images paged out.", info.page_outs)?;
        table.one(
            "exuvia_page_in_seconds",
            "Time of page-ins, including page-outs that free frames for them; one in 64 is timed.",
            &ConstCounter::new(seconds(info.page_in_ns, info.page_ins)),
        )?;
        table.one(
            "exuvia_page_out_seconds",
            "Time of page-outs; one in 64 is timed.",
            &ConstCounter::new(seconds(info.page_out_ns, info.page_outs)),
        )?;
        table.counter(
            "exuvia_frame_hits",
            "Entries into guests that found the process in a frame.",
            info.frame_hits,
        )?;
        table.one(
            "exuvia_frame_hit_ratio",
            "The share of hits in hits and page-ins since the start.",
            &ConstGauge::new(info.hit_rate),
        )
    }
}

/// Writes the metrics, one after another. The format adds `_total` to the names of counters.
struct Table<'a>(DescriptorEncoder<'a>);

impl Table<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(name, help, &ConstGauge::new(value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(name, help, &ConstCounter::new(value))
    }

    fn one(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let kind = metric.metric_type();
        metric.encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    /// Writes a gauge with one label, whose values are given.
    fn family<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let kind = ConstGauge::new(0_u64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (of, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&[(label, of)])?)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times and rates for people and graphs"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
