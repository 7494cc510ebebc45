//! Translates the model of a manifest to what the parts of a node need: the one file that knows
//! both.

use std::sync::Arc;

use exuvia_engine::MemoryLayout;
use exuvia_io::{
    BuiltinFile, Certificate, ConnectionLimits, Cors, Datagrams, Existing, Listen, ListenAddress,
    Owner, Pattern, Protocol, Recipient, Route, Target, response_headers,
};
use exuvia_manifest::{self as manifest, Builtin, Manifest, Per, RouteTarget};
use exuvia_process::{Folder, Grants, Limits, UNBOUNDED};
use exuvia_supervisor::{Restart, Shutdown, Strategy, SupervisorSpec};

use crate::config::NodeConfig;
use crate::event::Level;
use crate::logger::LogRules;

// What a manifest may say, and its defaults, are those of the parts.
const _: () = {
    use exuvia_engine::MAX_MODULE_BYTES;
    use exuvia_process::MOST_GRANTS;
    use exuvia_scheduler::MOST_OTHERS_SHARE;

    assert!(manifest::MAX_MODULE_BYTES == MAX_MODULE_BYTES as u64);
    assert!(manifest::MAX_GRANTS == MOST_GRANTS);
    assert!(manifest::MAX_NORMAL_SHARE == MOST_OTHERS_SHARE);
};

impl NodeConfig {
    /// Returns the settings that a manifest asks for.
    pub fn of(manifest: &Manifest) -> NodeConfig {
        let settings = &manifest.node;
        NodeConfig {
            app: manifest.name.clone(),
            schedulers: settings.schedulers.unwrap_or(0) as usize,
            frames: settings.frames.unwrap_or(0) as usize,
            normal_share: settings.normal_share,
            frame_memory: settings.frame_memory.unwrap_or(0),
            processes: settings.processes.unwrap_or(0) as usize,
            probation: settings.probation,
            verify: settings.verify,
            release_threshold: settings.release_threshold,
            drain_per_s: settings.drain_per_s,
            limits: limits(&manifest.limits),
            module_memory: manifest.most_memory(),
            log: log_rules(&manifest.log),
            ..NodeConfig::default()
        }
    }
}

/// Returns what is listened to.
pub(crate) fn listen(listen: &manifest::Listen) -> Listen {
    let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    Listen {
        address: match (&listen.address, &listen.protocol) {
            (manifest::ListenAddress::Network(address), manifest::Protocol::Udp(_)) => {
                ListenAddress::Udp(*address)
            }
            (manifest::ListenAddress::Network(address), _) => ListenAddress::Tcp(*address),
            (manifest::ListenAddress::Unix(path), _) => ListenAddress::Unix(path.clone()),
        },
        mode: listen.mode,
        socket: listen.socket.clone(),
        protocol: match &listen.protocol {
            manifest::Protocol::Http(routes) => {
                Protocol::Http(routes.iter().filter_map(route).collect())
            }
            manifest::Protocol::Tcp(owner) => Protocol::Tcp(match owner {
                manifest::Owner::Name(name) => Owner::Existing(Existing::Name(name.clone())),
                manifest::Owner::Group(group) => Owner::Existing(Existing::Group(group.clone())),
                manifest::Owner::Module(module) => Owner::Module(module.clone()),
            }),
            manifest::Protocol::Udp(udp) => Protocol::Udp(Datagrams {
                to: match &udp.to {
                    manifest::Receiver::Name(name) => Existing::Name(name.clone()),
                    manifest::Receiver::Group(group) => Existing::Group(group.clone()),
                },
                datagram: bytes(udp.datagram),
                queue: bytes(udp.queue),
            }),
        },
        origins: listen.origins.clone(),
        cors: listen.cors.as_ref().map(|cors| {
            let cors = Cors {
                origins: cors.origins.clone(),
                methods: cors.methods.clone(),
                headers: cors.headers.clone(),
                expose: cors.expose.clone(),
                credentials: cors.credentials,
                max_age: cors.max_age,
            };
            cors.into()
        }),
        response_headers: response_headers(&listen.response_headers),
        tls: listen.tls.as_ref().map(|tls| Certificate {
            chain: tls.certificate.clone(),
            key: tls.key.clone(),
        }),
        limits: ConnectionLimits {
            connections: bytes(listen.connections),
            headers: bytes(listen.headers),
            body: bytes(listen.body),
            timeout: listen.timeout,
            reading: listen.reading,
            idle: listen.idle,
        },
        access_log: listen.access_log,
    }
}

/// `None`: a pattern is wrong, which the manifest has reported.
fn target(target: &RouteTarget) -> Option<Target> {
    let existing = |existing| Target::Process(Recipient::Existing(existing));
    Some(match target {
        RouteTarget::Files { path, is_folder } => match is_folder {
            true => Target::Folder(path.clone()),
            false => Target::File(path.clone()),
        },
        RouteTarget::Builtin(Builtin::ChannelClient) => {
            Target::Builtin(BuiltinFile::CHANNEL_CLIENT)
        }
        RouteTarget::Redirect(to) => Target::Redirect(Pattern::parse(to).ok()?),
        RouteTarget::Name(name) => existing(Existing::Name(name.clone())),
        RouteTarget::Group(group) => existing(Existing::Group(group.clone())),
        RouteTarget::Module { module, per } => Target::Process(match per {
            Per::Request => Recipient::Request(module.clone()),
            Per::Connection => Recipient::Connection(module.clone()),
            Per::Key { key, idle } => Recipient::Key {
                module: module.clone(),
                key: Pattern::parse(key).ok()?,
                idle: *idle,
            },
        }),
    })
}

fn route(route: &manifest::Route) -> Option<Route> {
    Some(Route {
        host: route.host.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        body: route.body,
        streams: route.stream,
        target: target(&route.target)?,
        response_headers: response_headers(&route.response_headers),
    })
}

/// Returns how the memories of a module's processes lie.
pub(crate) fn memory_layout(layout: manifest::MemoryLayout) -> MemoryLayout {
    match layout {
        manifest::MemoryLayout::Packed => MemoryLayout::Packed,
        manifest::MemoryLayout::Wide => MemoryLayout::Wide,
    }
}

/// Returns the limits of a module or a child.
pub(crate) fn limits(limits: &manifest::Limits) -> Limits {
    let narrow = |value| u32::try_from(value).unwrap_or(u32::MAX);
    Limits {
        memory: limits.memory,
        mailbox_messages: narrow(limits.mailbox_messages),
        mailbox_bytes: limits.mailbox_bytes,
        message_bytes: narrow(limits.message_bytes),
        children: narrow(limits.children),
        descendants: limits.descendants.map_or(UNBOUNDED, narrow),
        tables: limits.tables,
        priority: limits.priority,
        files: narrow(limits.files),
        grants: Arc::new(grants(&limits.grants)),
    }
}

/// As [`limits`], but shares with `other` what is equal: limits are compared by their address
/// first, whenever a process starts another one.
pub(crate) fn limits_like(wanted: &manifest::Limits, other: &Arc<Limits>) -> Arc<Limits> {
    let mut limits = limits(wanted);
    if limits == **other {
        return other.clone();
    }
    if limits.grants == other.grants {
        limits.grants = other.grants.clone();
    }
    Arc::new(limits)
}

fn grants(grants: &manifest::Grants) -> Grants {
    let folder = |folder: &manifest::Folder| Folder {
        guest: folder.guest.clone(),
        host: folder.host.clone(),
        below: Vec::new(),
        write: folder.write,
    };
    Grants {
        folders: grants.folders.iter().map(folder).collect(),
        env: grants.env.clone(),
        args: grants.args.clone(),
        terminal: grants.terminal,
        connect: grants.connect.clone(),
    }
}

/// Returns the specification of a supervisor for the state machine.
pub(crate) fn supervisor_spec(entry: &manifest::SupervisorEntry) -> SupervisorSpec {
    SupervisorSpec {
        strategy: match entry.strategy {
            manifest::Strategy::OneForOne => Strategy::OneForOne,
            manifest::Strategy::OneForAll => Strategy::OneForAll,
            manifest::Strategy::RestForOne => Strategy::RestForOne,
        },
        intensity: entry.intensity,
        period_ms: u64::try_from(entry.period.as_millis()).unwrap_or(u64::MAX),
        max_children: usize::try_from(entry.max_children).unwrap_or(usize::MAX),
    }
}

/// Returns when a child is restarted.
pub(crate) fn restart(restart: manifest::Restart) -> Restart {
    match restart {
        manifest::Restart::Permanent => Restart::Permanent,
        manifest::Restart::Transient => Restart::Transient,
        manifest::Restart::Temporary => Restart::Temporary,
    }
}

/// Returns how a child is stopped.
pub(crate) fn shutdown(shutdown: manifest::Shutdown) -> Shutdown {
    match shutdown {
        manifest::Shutdown::BrutalKill => Shutdown::BrutalKill,
        manifest::Shutdown::Timeout(time) => {
            Shutdown::TimeoutMs(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        }
        manifest::Shutdown::Infinity => Shutdown::Infinity,
    }
}

/// Returns which log lines of guests are reported.
pub(crate) fn log_rules(settings: &manifest::LogSettings) -> LogRules {
    let level = |level: &Option<manifest::Level>| {
        level.map(|level| match level {
            manifest::Level::Error => Level::Error,
            manifest::Level::Warn => Level::Warn,
            manifest::Level::Info => Level::Info,
            manifest::Level::Debug => Level::Debug,
        })
    };
    let modules = settings.modules.iter();
    LogRules {
        level: level(&settings.level),
        modules: modules
            .map(|(name, own)| (name.clone(), level(own)))
            .collect(),
        lines_per_s: settings.lines_per_s,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exuvia_manifest::{self as manifest, Manifest};
    use exuvia_process::Limits;
    use exuvia_supervisor::{ChildSpec, SupervisorSpec};

    use super::{limits, limits_like, log_rules, shutdown, supervisor_spec};
    use crate::{LogRules, NodeConfig};

    #[test]
    fn an_empty_manifest_has_the_defaults_of_the_parts() {
        let text = "[app]\nname = \"a\"\n[modules.m]\npath = \"m\"\n\
                    [[supervisor.children]]\nid = \"m\"\nmodule = \"m\"\n";
        let empty = Manifest::parse(text, "exuvia.toml", "").unwrap();
        assert_eq!(limits(&empty.limits), Limits::default());
        assert_eq!(
            supervisor_spec(&empty.supervisor),
            SupervisorSpec::default()
        );
        assert_eq!(log_rules(&empty.log), LogRules::default());
        let worker = ChildSpec::worker("m", ());
        assert_eq!(
            shutdown(empty.supervisor.children[0].shutdown),
            worker.shutdown
        );
        let (ours, node) = (NodeConfig::of(&empty), NodeConfig::default());
        assert_eq!(
            (
                ours.normal_share,
                ours.probation,
                ours.verify,
                ours.release_threshold,
                ours.drain_per_s
            ),
            (
                node.normal_share,
                node.probation,
                node.verify,
                node.release_threshold,
                node.drain_per_s
            )
        );
    }

    #[test]
    fn equal_limits_are_one_and_equal_grants_as_well() {
        let wanted = manifest::Limits::default();
        let other = Arc::new(limits(&wanted));
        assert!(Arc::ptr_eq(&limits_like(&wanted, &other), &other));
        let more = manifest::Limits {
            memory: 1,
            ..wanted
        };
        let more = limits_like(&more, &other);
        assert_eq!(more.memory, 1);
        assert!(Arc::ptr_eq(&more.grants, &other.grants));
    }
}
