//! The state of the node as a whole, and its releases.

use std::sync::atomic::Ordering;

use exuvia_engine::Engine;

use super::{Inspector, LoadedInfo, ModuleInfo, NodeInfo, ReleaseInfo};

impl Inspector<'_> {
    /// Returns the current state of the node.
    pub(crate) fn info(&self) -> NodeInfo {
        let core = self.core;
        let release = core.code.current();
        let frames = core.executor.frames();
        let metrics = core.executor.metrics();
        let page_ins = metrics.page_ins.load(Ordering::Relaxed);
        let hits = metrics.hits.get();
        let mut modules: Vec<ModuleInfo> = release
            .versions()
            .map(|version| ModuleInfo {
                name: version.module.to_string(),
                version: version.number,
                digest: version.digest.short(),
                processes: version.process_count(),
                schema: version.artifact.schema(),
                bytes: version.artifact.file_bytes(),
                resident_only: version.artifact.resident_only().to_vec(),
                loaded: core
                    .code
                    .versions(&version.module)
                    .iter()
                    .map(|version| LoadedInfo {
                        version: version.number,
                        processes: version.process_count(),
                        digest: version.digest.short(),
                    })
                    .collect(),
            })
            .collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        NodeInfo {
            app: core.config.app.clone(),
            node: format!("{:016x}", core.system.node()),
            release: release.id,
            processes: core.system.table.alive(),
            most_processes: core.system.table.limit(),
            schedulers: core.schedulers.workers(),
            threads_blocked: core.schedulers.blocked_threads(),
            frames: frames.live,
            frames_blocked: frames.blocked,
            frames_free: frames.free,
            frame_bytes: frames.bytes,
            frame_memory: frames.most_bytes,
            frames_made: metrics.frames_made.load(Ordering::Relaxed),
            frame_failures: frames.failures,
            frames_released: frames.released,
            uptime_ms: core.system.clock.now() / 1_000_000,
            page_ins,
            page_outs: metrics.page_outs.load(Ordering::Relaxed),
            page_in_ns: metrics.page_in_time.mean(),
            page_out_ns: metrics.page_out_time.mean(),
            frame_hits: hits,
            hit_rate: rate(hits, page_ins),
            page_map: page_map(&core.engine),
            timers: core.system.timers.len(),
            modules,
        }
    }

    /// Returns the current release and those that can be rolled back to, newest first.
    pub(crate) fn releases(&self) -> Vec<ReleaseInfo> {
        let in_memory = self.releases_in_memory();
        let Some(store) = self.core.log.store() else {
            return in_memory;
        };
        let (log, sizes) = match (store.releases(), store.sizes()) {
            (Ok(log), Ok(sizes)) => (log, sizes),
            // What runs is known without it.
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!("{error}");
                return in_memory;
            }
        };
        let version = |module: &str, digest| {
            let mut versions = self.core.code.versions(module).into_iter();
            versions.find(|it| it.digest == digest).map(|it| it.number)
        };
        let current = self.core.code.current_id();
        let stored = log.into_iter().map(|(record, is_pinned)| {
            let is_current = record.number == current;
            ReleaseInfo::stored(record, is_pinned, is_current, &sizes, version)
        });
        let mut releases: Vec<ReleaseInfo> = stored.collect();
        if !releases.iter().any(|release| release.is_current) {
            // It could not be written so far.
            releases.splice(0..0, in_memory.into_iter().take(1));
        }
        releases
    }

    fn releases_in_memory(&self) -> Vec<ReleaseInfo> {
        let code = &self.core.code;
        let current = ReleaseInfo::of(&code.current(), true);
        let targets = code.rollback_targets().into_iter();
        let targets = targets.map(|release| ReleaseInfo::of(&release, false));
        std::iter::once(current).chain(targets).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
fn rate(hits: u64, misses: u64) -> f64 {
    match hits + misses {
        0 => 1.0,
        all => hits as f64 / all as f64,
    }
}

pub(crate) fn page_map(engine: &Engine) -> String {
    let method = format!("{:?}", engine.page_map()).to_lowercase();
    match engine.counts_faults() {
        true => format!("{method} after faults"),
        false => method,
    }
}
