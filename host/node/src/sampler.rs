//! The samples that `exuvia top` shows: which processes do the most, and how busy the schedulers
//! are.
//!
//! Most processes of a node are idle. A process that has run leaves a mark in its slot, and only
//! the marked ones are inspected: a sample costs a cheap check of each slot, and one inspection for
//! each process that has run since the previous sample.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_engine::GuestProcess;
use exuvia_process::RunState;
use exuvia_scheduler::WorkerMetrics;
use parking_lot::Mutex;

use crate::core::Core;
use crate::inspect::{Inspector, ProcessInfo, describe};

/// The maximum number of processes that a sample inspects; the others wait for the next one. An
/// inspection takes a fraction of a microsecond.
const MOST_INSPECTED: usize = 200_000;
/// The maximum number of processes of which a sample remembers the reductions.
const REMEMBERED: usize = 4_000_000;
/// How long a sample waits for processes that are running.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the processes are sorted by, in descending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Reductions per second, then reductions in total.
    #[default]
    Reductions,
    /// Messages in the mailbox.
    Mailbox,
    /// Bytes of linear memory.
    Memory,
}

/// One process of a sample.
#[derive(Clone, Debug)]
pub struct TopProcess {
    /// What `ps` shows.
    pub process: ProcessInfo,
    /// Reductions per second since the previous sample.
    pub rate: f64,
}

/// One scheduler of a sample.
#[derive(Clone, Debug)]
pub struct SchedulerLoad {
    /// The share of the time that it was not asleep, 0 to 1.
    pub busy: f64,
    /// Slices per second.
    pub slices: f64,
}

/// A sample: what has happened since the previous one, whichever client took that.
#[derive(Clone, Debug)]
pub struct Top {
    /// Milliseconds since the previous sample; 0: this is the first, and all rates are 0.
    pub interval_ms: f64,
    /// The number of processes alive.
    pub processes: usize,
    /// The number of those that have run since the previous sample.
    pub ran: usize,
    /// Reductions per second of all inspected processes.
    pub reductions: f64,
    /// The schedulers.
    pub schedulers: Vec<SchedulerLoad>,
    /// The processes with the highest values, sorted.
    pub top: Vec<TopProcess>,
}

/// Takes samples, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Sampler(Mutex<Previous>);

/// What the previous sample has seen.
#[derive(Debug, Default)]
struct Previous {
    at: u64,
    number: u64,
    rows: HashMap<u32, Row>,
    workers: Vec<WorkerMetrics>,
    /// The slot at which the next sample starts.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    generation: u64,
    reductions: u64,
    memory: u64,
    mailbox: u64,
    /// Reductions since the previous sample, if it has run since.
    delta: u64,
    /// The sample in which it was last inspected.
    sample: u64,
}

impl Sampler {
    /// Takes a sample, and returns the `limit` processes with the highest values.
    pub(crate) fn sample(&self, inspector: Inspector<'_>, sort: Sort, limit: usize) -> Top {
        let core = inspector.core;
        let mut previous = self.0.lock();
        let now = core.now();
        let seconds = match previous.at {
            0 => 0.0,
            at => now.saturating_sub(at) as f64 / 1e9,
        };
        previous.at = now;
        previous.number += 1;
        let per_second = |count: u64| match seconds > 0.0 {
            true => count as f64 / seconds,
            false => 0.0,
        };
        let ran = previous.update(core);
        let number = previous.number;
        let delta = |row: &Row| match row.sample == number {
            true => row.delta,
            false => 0,
        };
        let reductions: u64 = previous.rows.values().map(delta).sum();
        let key = |row: &Row| match sort {
            Sort::Reductions => (delta(row), row.reductions),
            Sort::Mailbox => (row.mailbox, delta(row)),
            Sort::Memory => (row.memory, delta(row)),
        };
        let mut rows: Vec<_> = (previous.rows.iter())
            .map(|(slot, row)| (key(row), *slot))
            .collect();
        if rows.len() > limit && limit > 0 {
            rows.select_nth_unstable_by(limit - 1, |a, b| b.cmp(a));
        }
        rows.truncate(limit);
        rows.sort_unstable_by(|a, b| b.cmp(a));
        let rows: Vec<(u32, Row)> = (rows.into_iter())
            .filter_map(|(_, slot)| Some((slot, *previous.rows.get(&slot)?)))
            .collect();
        let mut described = describe_all(core, &rows);
        let top = rows
            .iter()
            .map(|(slot, row)| {
                let known = described.remove(slot);
                let mut process = known.unwrap_or_else(|| running(*slot, row));
                inspector.complete(&mut process);
                TopProcess {
                    process,
                    rate: per_second(delta(row)),
                }
            })
            .collect();
        let workers = core.schedulers.metrics().workers;
        let schedulers = workers
            .iter()
            .enumerate()
            .map(|(index, metrics)| {
                let before = previous.workers.get(index).copied().unwrap_or_default();
                let asleep = metrics.parked_ns.saturating_sub(before.parked_ns);
                let slices = metrics.slices.saturating_sub(before.slices);
                SchedulerLoad {
                    busy: match seconds > 0.0 {
                        true => (1.0 - per_second(asleep) / 1e9).clamp(0.0, 1.0),
                        false => 0.0,
                    },
                    slices: per_second(slices),
                }
            })
            .collect();
        previous.workers = workers;
        Top {
            interval_ms: seconds * 1e3,
            processes: core.system.table.alive(),
            ran,
            reductions: per_second(reductions),
            schedulers,
            top,
        }
    }
}

/// Describes the processes of some rows, as far as they can be inspected.
fn describe_all(core: &Core, rows: &[(u32, Row)]) -> HashMap<u32, ProcessInfo> {
    let release = core.code.current();
    let slots = rows.iter().map(|(slot, _)| *slot);
    let described = core.survey_slots(slots, usize::MAX, false, PATIENCE, move |process| {
        Some((process.pid().slot(), describe(process, &release)))
    });
    described.into_iter().collect()
}

impl Previous {
    /// Brings the rows up to date. Returns the number of processes that have run.
    fn update(&mut self, core: &Core) -> usize {
        let table = &core.system.table;
        let slots = u32::try_from(table.indices().count()).unwrap_or(u32::MAX);
        let begin = self.next.min(slots);
        let number = self.number;
        let mut ran = Vec::new();
        self.next = 0;
        for index in (begin..slots).chain(0..begin) {
            let Some(slot) = table.slot(index) else {
                continue;
            };
            if slot.state.get() == RunState::Free {
                self.rows.remove(&index);
                continue;
            }
            // Written only if it is set, so that the cache line is not taken from the schedulers.
            if !slot.ran.load(Ordering::Relaxed) {
                continue;
            }
            if ran.len() >= MOST_INSPECTED {
                self.next = index;
                break;
            }
            slot.ran.store(false, Ordering::Relaxed);
            ran.push(index);
        }
        let slots = ran.iter().copied();
        let rows = core.survey_slots(slots, usize::MAX, false, PATIENCE, move |process| {
            Some((process.pid().slot(), row_of(process, number)))
        });
        for (index, mut row) in rows {
            let waiting = table.slot(index).map_or(0, |slot| slot.mailbox.len());
            row.mailbox += waiting as u64;
            self.note(index, row);
        }
        ran.len()
    }

    fn note(&mut self, index: u32, mut row: Row) {
        let before = self.rows.get(&index).copied();
        let same = before.filter(|before| before.generation == row.generation);
        let then = same.map_or(0, |before| before.reductions);
        row.delta = row.reductions.saturating_sub(then);
        if before.is_some() || self.rows.len() < REMEMBERED {
            self.rows.insert(index, row);
        }
    }
}

fn row_of(process: &mut GuestProcess, number: u64) -> Row {
    Row {
        generation: process.pid().generation(),
        reductions: process.reductions,
        memory: process.guest().map_or(0, |guest| guest.memory_bytes()),
        mailbox: process.messages() as u64,
        delta: 0,
        sample: number,
    }
}

/// Describes a process that is running, from its last row.
fn running(slot: u32, row: &Row) -> ProcessInfo {
    ProcessInfo {
        pid: format!("<{slot}.{}>", row.generation),
        names: Vec::new(),
        module: None,
        state: "running".into(),
        mailbox: row.mailbox,
        reductions: row.reductions,
        memory: row.memory,
        image: 0,
        upgrade: None,
        upgrade_reason: None,
        upgrades: 0,
    }
}
