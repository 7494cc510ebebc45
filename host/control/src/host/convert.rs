//! Converts what the node knows to what the API sends. A field that only one of them has is a
//! decision, and stands here.

use exuvia_api as api;
use exuvia_node as node;
use serde_json::{Map, Value, json};

/// Counters of the node fit.
fn wide(number: usize) -> u64 {
    number as u64
}

pub(super) fn info(info: node::NodeInfo) -> api::Info {
    api::Info {
        app: info.app,
        node: info.node,
        release: info.release,
        processes: wide(info.processes),
        processes_limit: wide(info.most_processes),
        schedulers: wide(info.schedulers),
        threads_blocked: wide(info.threads_blocked),
        frames: wide(info.frames),
        frames_blocked: wide(info.frames_blocked),
        frames_free: wide(info.frames_free),
        frame_bytes: info.frame_bytes,
        frame_bytes_limit: info.frame_memory,
        frames_made: info.frames_made,
        frame_failures: info.frame_failures,
        frames_released: info.frames_released,
        uptime_ms: info.uptime_ms,
        page_ins: info.page_ins,
        page_outs: info.page_outs,
        page_in_ns: info.page_in_ns,
        page_out_ns: info.page_out_ns,
        frame_hits: info.frame_hits,
        hit_rate: info.hit_rate,
        page_map: info.page_map,
        timers: wide(info.timers),
        modules: info.modules.into_iter().map(module).collect(),
    }
}

fn module(module: node::ModuleInfo) -> api::Module {
    let loaded = module.loaded.into_iter();
    let loaded = loaded.map(|version| api::LoadedVersion {
        version: version.version.into(),
        processes: wide(version.processes),
        digest: version.digest,
    });
    api::Module {
        name: module.name,
        version: module.version.into(),
        digest: module.digest,
        processes: wide(module.processes),
        schema: module.schema.into(),
        bytes: wide(module.bytes),
        resident_only: module.resident_only,
        loaded: loaded.collect(),
    }
}

pub(super) fn process(process: node::ProcessInfo) -> api::Process {
    let upgrade = process.upgrade;
    api::Process {
        pid: process.pid,
        names: process.names,
        module: process.module,
        state: process.state,
        mailbox: process.mailbox,
        reductions: process.reductions,
        memory: process.memory,
        image: process.image,
        upgrade: upgrade.map(|state| upgrade_state(state).to_owned()),
        upgrade_reason: process.upgrade_reason,
        upgrades: process.upgrades.into(),
    }
}

fn upgrade_state(state: node::UpgradeState) -> &'static str {
    match state {
        node::UpgradeState::Current => "current",
        node::UpgradeState::Pending => "pending",
        node::UpgradeState::Failed => "failed",
        node::UpgradeState::Exempt => "exempt",
        node::UpgradeState::Reverted => "reverted",
    }
}

pub(super) fn inspection(
    inspection: node::Inspection,
    state: Option<api::Rendered>,
) -> api::Inspection {
    let tables = inspection.tables.into_iter().map(|table| api::Table {
        table: table.table,
        name: table.name,
        rows: wide(table.rows),
        bytes: table.bytes,
    });
    let holdings = inspection.holdings.iter().map(|holding| api::Holding {
        kind: holding.kind.to_owned(),
        count: wide(holding.count),
    });
    let holdings = holdings.collect();
    let messages = inspection.messages.into_iter();
    let messages = messages.map(|message| api::WaitingMessage {
        kind: message.kind,
        from: message.from,
        tag: message.tag,
        bytes: wide(message.bytes),
    });
    api::Inspection {
        process: process(inspection.process),
        parent: inspection.parent,
        links: inspection.links,
        monitors: inspection.monitors,
        watchers: wide(inspection.watchers),
        trap_exit: inspection.trap_exit,
        limits: limits(inspection.limits),
        groups: inspection.groups,
        tables: tables.collect(),
        holdings,
        priority: inspection.priority,
        messages: messages.collect(),
        schema: inspection.schema.map(Into::into),
        no_state: inspection.no_state,
        data: state,
    }
}

fn limits(limits: node::LimitsInfo) -> api::Limits {
    api::Limits {
        memory: limits.memory,
        mailbox_messages: limits.mailbox_messages.into(),
        mailbox_bytes: limits.mailbox_bytes,
        message_bytes: limits.message_bytes.into(),
        children: limits.children.into(),
        descendants: limits.descendants.map(Into::into),
        tables: limits.tables,
        priority: limits.priority,
        files: limits.files.into(),
        wasi: wasi(limits.wasi),
        connect: limits.connect,
    }
}

/// Returns the grants with the keys of the manifest.
fn wasi(wasi: node::WasiInfo) -> Value {
    let access = |write| if write { "write" } else { "read" };
    let dirs: Map<String, Value> = (wasi.dirs.into_iter())
        .map(|dir| {
            let entry = json!({ "path": dir.path, "access": access(dir.write) });
            (dir.guest, entry)
        })
        .collect();
    json!({
        "dirs": dirs,
        "env": wasi.env,
        "args": wasi.args,
        "stdio": if wasi.terminal { "terminal" } else { "log" },
    })
}

pub(super) fn top(top: node::Top) -> api::Top {
    let schedulers = top.schedulers.iter().map(|load| api::SchedulerLoad {
        busy: load.busy,
        slices: load.slices,
    });
    let processes = top.top.into_iter().map(|sample| api::TopProcess {
        process: process(sample.process),
        rate: sample.rate,
    });
    api::Top {
        interval_ms: top.interval_ms,
        processes: wide(top.processes),
        ran: wide(top.ran),
        reductions: top.reductions,
        schedulers: schedulers.collect(),
        top: processes.collect(),
    }
}

pub(super) fn description(description: node::Description) -> api::Description {
    let functions = description.functions.into_iter();
    let functions = functions.map(|function| {
        let parameters = function.parameters.into_iter();
        let parameters = parameters.map(|parameter| api::Parameter {
            name: parameter.name,
            ty: parameter.ty,
        });
        api::Function {
            name: function.name,
            parameters: parameters.collect(),
            reply: function.reply,
            message: function.message,
            docs: function.docs,
        }
    });
    api::Description {
        pid: description.pid,
        module: description.module,
        functions: functions.collect(),
        unreadable: description.unreadable,
    }
}

pub(super) fn branch(below: node::Branch) -> api::Branch {
    api::Branch {
        id: below.id,
        pid: below.pid,
        names: below.names,
        module: below.module,
        state: below.state,
        process: below.process,
        restart: below.restart,
        strategy: below.strategy,
        children: below.children.into_iter().map(branch).collect(),
        more: wide(below.more),
    }
}

pub(super) fn release(release: node::ReleaseInfo) -> api::Release {
    let modules = release.modules.into_iter();
    let modules = modules.map(|module| api::ReleaseModule {
        name: module.name,
        version: module.version.map(u64::from),
        digest: module.digest,
        bytes: module.bytes,
    });
    api::Release {
        release: release.release,
        current: release.is_current,
        origin: release.origin,
        modules: modules.collect(),
        logged: release.logged.map(logged),
    }
}

fn logged(logged: node::LoggedInfo) -> api::Logged {
    api::Logged {
        at_ms: logged.at,
        from: match logged.origin {
            node::Origin::Files => api::ReleaseOrigin::Files,
            node::Origin::Deploy => api::ReleaseOrigin::Deploy,
            node::Origin::Rollback(_) => api::ReleaseOrigin::Rollback,
            node::Origin::Failure(_) => api::ReleaseOrigin::Failure,
        },
        author: logged.author,
        message: logged.message,
        outcome: match logged.outcome {
            node::Outcome::Committed => api::Outcome::Committed,
            node::Outcome::Complete {
                upgraded,
                failed,
                reverted,
            } => api::Outcome::Complete {
                upgraded,
                failed,
                reverted,
            },
            node::Outcome::RolledBack(by) => api::Outcome::RolledBack { by },
        },
        pinned: logged.is_pinned,
    }
}

/// Renders a payload that was sent with `tag`.
pub(crate) fn rendered(tag: u32, payload: &[u8]) -> api::Rendered {
    match node::Rendered::new(tag, payload) {
        node::Rendered::Empty => api::Rendered::Empty,
        node::Rendered::Msgpack(value) => api::Rendered::Msgpack(value),
        node::Rendered::Text(text) => api::Rendered::Text(text),
        node::Rendered::Hex(digits) => api::Rendered::Hex(digits),
    }
}

/// Both sides mean the same tags.
const _: () = assert!(
    api::TYPED_TAG == node::TYPED_TAG && api::REFUSED_TAG == node::REFUSED_TAG,
    "the tags of the API are those of the SDKs"
);
