//! The supervision tree of a manifest, and what must hold within it: ids, registered names, modules
//! that exist, and how many children there are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::table::{At, Table, as_table, unknown_word, wrong_type};
use super::wasi::grants;
use super::{limits, value};
use crate::error::{Found, Problems};
use crate::keys::{CHILD, RESTARTS, SHUTDOWNS, STRATEGIES};
use crate::{
    Child, Limits, MAX_CHILDREN, MAX_SUPERVISOR_DEPTH, Module, OwnMemory, Process, Shutdown,
    SupervisorEntry, Work,
};

/// Reads `[supervisor]`, the root of the tree.
pub(super) fn supervisor(
    root: &Table<'_, '_>,
    modules: &BTreeMap<String, Module>,
    limits: &Limits,
    (text, base_dir): (&str, &Path),
    problems: &mut Problems,
) -> (SupervisorEntry, Vec<OwnMemory>) {
    let mut tree = Tree {
        modules,
        limits,
        base_dir,
        names: Vec::new(),
        memories: Vec::new(),
        children: 0,
    };
    let supervisor = match root.table("supervisor", || "`[supervisor]`".to_owned(), problems) {
        Some(table) => tree.supervisor(table, 1, "supervisor", problems),
        None => SupervisorEntry {
            max_children: limits.children,
            ..SupervisorEntry::default()
        },
    };
    if tree.children > MAX_CHILDREN {
        problems.add(
            Found::at(
                root.key_span("supervisor").unwrap_or(0..0),
                format!(
                    "the manifest has {} children, more than {MAX_CHILDREN}",
                    tree.children
                ),
            )
            .help("start the others from a process".to_owned()),
        );
    }
    check_names(&tree.names, text, problems);
    (supervisor, tree.memories)
}

/// A registered name, or the pattern of several.
#[derive(Debug)]
struct Registered {
    pattern: String,
    count: Option<u32>,
    span: Range<usize>,
}

/// What is shared while the supervision tree is read.
struct Tree<'m> {
    modules: &'m BTreeMap<String, Module>,
    limits: &'m Limits,
    base_dir: &'m Path,
    names: Vec<Registered>,
    memories: Vec<OwnMemory>,
    /// The number of children so far, with their counts.
    children: u64,
}

/// Keys that only a child with `module` has.
const PROCESS_KEYS: [&str; 7] = ["count", "name", "args", "limits", "wasi", "net", "manages"];

impl Tree<'_> {
    fn supervisor(
        &mut self,
        mut table: Table<'_, '_>,
        depth: usize,
        path: &str,
        problems: &mut Problems,
    ) -> SupervisorEntry {
        let defaults = SupervisorEntry::default();
        if depth > MAX_SUPERVISOR_DEPTH {
            problems.add(Found::at(
                table.span.clone(),
                format!("supervisors are nested deeper than {MAX_SUPERVISOR_DEPTH} levels"),
            ));
            return defaults;
        }
        let strategy = table.choice("strategy", &STRATEGIES, problems);
        let intensity = table.integer32("intensity", problems);
        let period = table.duration("period", problems);
        table.retired_duration("period_s", "period", Duration::from_secs(1), problems);
        let mut children: Vec<(Child, Range<usize>)> = Vec::new();
        let listed = table.get("children");
        if let Some(DeValue::Array(array)) = listed.map(|value| value.get_ref()) {
            for (n, value) in array.iter().enumerate() {
                let path = format!("{path}.children[{n}]");
                let title = || format!("`{path}`");
                if let Some(table) = as_table("children", value, &CHILD, title, problems) {
                    children.extend(self.child(table, depth, &path, problems));
                }
            }
        } else if let Some(value) = listed {
            problems.add(wrong_type("children", "an array of tables", value));
        }
        let span = table.key_span("children").unwrap_or(table.span.clone());
        self.check_children(&children, span, problems);
        table.finish(problems);
        SupervisorEntry {
            strategy: strategy.unwrap_or(defaults.strategy),
            intensity: intensity.unwrap_or(defaults.intensity),
            period: period.unwrap_or(defaults.period),
            max_children: self.limits.children,
            children: children.into_iter().map(|(child, _)| child).collect(),
        }
    }

    /// Reads a child; returns it with the position of its id.
    fn child(
        &mut self,
        mut table: Table<'_, '_>,
        depth: usize,
        path: &str,
        problems: &mut Problems,
    ) -> Option<(Child, Range<usize>)> {
        let id = table.name("id", problems);
        if table.key_span("id").is_none() {
            problems.add(
                Found::at(table.span.clone(), "a child has no `id`".to_owned())
                    .help("add:  id = \"...\"  (unique within its supervisor)".to_owned()),
            );
        }
        if let Some(id) = &id {
            table.title = format!("child `{}` (`{path}`)", id.value);
        }
        let restart = table.choice("restart", &RESTARTS, problems);
        let shutdown = shutdown(&mut table, problems);
        let module = table.key_span("module");
        let supervisor = table.key_span("supervisor");
        let work = match (module, supervisor) {
            (Some(_), None) => {
                let process = self.process(&table, path, problems);
                process.map(|process| Work::Process(Box::new(process)))
            }
            (None, Some(_)) => {
                refuse_process_keys(&table, problems);
                let path = format!("{path}.supervisor");
                let nested = table.table("supervisor", || format!("`{path}`"), problems);
                nested.map(|nested| {
                    self.children += 1;
                    Work::Supervisor(self.supervisor(nested, depth + 1, &path, problems))
                })
            }
            (found, also) => {
                let both = found.is_some();
                let message = if both {
                    "a child has either `module` or `supervisor`, not both"
                } else {
                    "a child needs a `module` or a `supervisor`"
                };
                let span = also.or(found).unwrap_or(table.span.clone());
                let found = Found::at(span, message.to_owned());
                problems.add(if both {
                    found
                } else {
                    found.help(self.module_help())
                });
                None
            }
        };
        let memory = table.inner_span("limits", "memory");
        table.finish(problems);
        let (id, work) = (id?, work?);
        if let (Work::Process(process), Some(span)) = (&work, memory) {
            self.memories.push(OwnMemory {
                child: id.value.to_owned(),
                module: process.module.clone(),
                memory: process.limits.memory,
                span,
            });
        }
        let usual = match &work {
            Work::Process(_) => Shutdown::Timeout(Duration::from_secs(5)),
            Work::Supervisor(_) => Shutdown::Infinity,
        };
        let child = Child {
            id: id.value.to_owned(),
            restart: restart.unwrap_or_default(),
            shutdown: shutdown.unwrap_or(usual),
            work,
        };
        Some((child, id.span))
    }

    fn process(
        &mut self,
        table: &Table<'_, '_>,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Process> {
        let module = table.string("module", problems);
        let known = module.as_ref().and_then(|at| self.modules.get(at.value));
        if let (Some(at), None) = (&module, known) {
            let found = unknown_word(
                at.span.clone(),
                format!("there is no module `{}`", at.value),
                at.value,
                self.modules.keys().map(String::as_str),
            );
            problems.add(if self.modules.is_empty() {
                found.help(self.module_help())
            } else {
                found
            });
        }
        let count = table.integer32("count", problems);
        let name = table.name("name", problems);
        if let Some(name) = name.as_ref() {
            self.name(name, count, table.key_span("count").is_some(), problems);
        }
        let around = known.map_or(self.limits, |module| &module.limits);
        let place = format!("{path}.");
        let mut limits = limits(table, around, &place, problems);
        limits.grants = grants(table, self.base_dir, &limits.grants, &place, problems);
        let args = args(table, &limits, problems);
        let manages = table.boolean("manages", problems);
        self.children += u64::from(count.unwrap_or(1));
        Some(Process {
            manages: manages.unwrap_or(false),
            module: module?.value.to_owned(),
            count,
            name: name.map(|name| name.value.to_owned()),
            args,
            limits,
        })
    }

    /// Records a registered name, after checking that it has `{n}` exactly if there is a `count`.
    fn name(
        &mut self,
        name: &At<&str>,
        count: Option<u32>,
        counted: bool,
        problems: &mut Problems,
    ) {
        if reads_as_pid(name.value) {
            problems.add(
                Found::at(name.span.clone(), "this name looks like a pid".to_owned()).help(
                    "choose another: messages to it would go to the process with that pid"
                        .to_owned(),
                ),
            );
        }
        let pattern = name.value.contains("{n}");
        if counted && !pattern {
            problems.add(
                Found::at(
                    name.span.clone(),
                    "all children of one entry would have the same name".to_owned(),
                )
                .help(format!("write \"{}-{{n}}\"", name.value)),
            );
        } else if pattern && !counted {
            problems.add(
                Found::at(name.span.clone(), "`{n}` has no meaning here".to_owned())
                    .help("add `count`, or write the name without `{n}`".to_owned()),
            );
        } else {
            self.names.push(Registered {
                pattern: name.value.to_owned(),
                count,
                span: name.span.clone(),
            });
        }
    }

    fn module_help(&self) -> String {
        match self.modules.keys().next() {
            Some(module) => format!("add:  module = \"{module}\""),
            None => "add it first:  [modules.NAME]  with  path = \"...\"".to_owned(),
        }
    }

    /// Checks that no id occurs twice, and that there are not more children than allowed.
    fn check_children(
        &self,
        children: &[(Child, Range<usize>)],
        span: Range<usize>,
        problems: &mut Problems,
    ) {
        let mut plain: HashSet<&str> = HashSet::new();
        let mut counted: HashMap<&str, u32> = HashMap::new();
        for (child, _) in children {
            if let Some(count) = count_of(child) {
                counted.insert(&child.id, count);
            }
        }
        let mut seen_counted: HashSet<&str> = HashSet::new();
        let mut total: u64 = 0;
        for (child, span) in children {
            let id = child.id.as_str();
            let count = count_of(child);
            total += u64::from(count.unwrap_or(1));
            let twice = if count.is_some() {
                !seen_counted.insert(id)
            } else {
                !plain.insert(id)
            };
            if twice {
                problems.add(
                    Found::at(span.clone(), format!("two children have the id `{id}`"))
                        .help("ids are unique within a supervisor".to_owned()),
                );
            } else if count.is_none() && is_counted(id, &counted) {
                problems.add(Found::at(
                    span.clone(),
                    format!("the id `{id}` is also generated by a child with `count`"),
                ));
            }
        }
        let limit = self.limits.children;
        if total > limit {
            problems.add(
                Found::at(
                    span.clone(),
                    format!("{total} children, but the limit of a supervisor is {limit}"),
                )
                .help("raise `children` in `[limits]`, or use several supervisors".to_owned()),
            );
        }
    }
}

/// Returns whether a name has the form `3.1` or `<3.1>`, also with `{n}` for a number: see
/// `Node::find`.
fn reads_as_pid(name: &str) -> bool {
    let number = |part: &str| {
        let part = part.replace("{n}", "0");
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    name.trim_start_matches('<')
        .trim_end_matches('>')
        .split_once('.')
        .is_some_and(|(slot, generation)| number(slot) && number(generation))
}

fn count_of(child: &Child) -> Option<u32> {
    match &child.work {
        Work::Process(process) => process.count,
        Work::Supervisor(_) => None,
    }
}

/// Returns whether an entry with `count` makes this id.
fn is_counted(id: &str, counted: &HashMap<&str, u32>) -> bool {
    let Some((base, number)) = id.rsplit_once('-') else {
        return false;
    };
    let Some(count) = counted.get(base) else {
        return false;
    };
    // `a-01` is not the second child of `a`.
    number
        .parse::<u32>()
        .is_ok_and(|n| n < *count && n.to_string() == number)
}

fn shutdown(table: &mut Table<'_, '_>, problems: &mut Problems) -> Option<Shutdown> {
    const KEY: &str = "shutdown";
    table.retired_duration("shutdown_ms", KEY, Duration::from_millis(1), problems);
    let value = table.get(KEY)?;
    match value.get_ref() {
        DeValue::String(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
            let known = SHUTDOWNS.iter().find(|(word, _)| word == text);
            if known.is_none() {
                let words = SHUTDOWNS.iter().map(|(word, _)| *word);
                let message = format!("`{text}` is not a known `{KEY}`");
                problems.add(
                    unknown_word(value.span(), message, text, words).help(
                        "known here: `brutal_kill`, `infinity`, or a duration such as \"5s\""
                            .to_owned(),
                    ),
                );
            }
            known.map(|(_, shutdown)| *shutdown)
        }
        _ => table.duration(KEY, problems).map(Shutdown::Timeout),
    }
}

fn refuse_process_keys(table: &Table<'_, '_>, problems: &mut Problems) {
    for key in PROCESS_KEYS {
        if table.get(key).is_some()
            && let Some(span) = table.key_span(key)
        {
            problems.add(Found::at(
                span,
                format!("`{key}` is for children with a `module`, not for supervisors"),
            ));
        }
    }
}

fn args(table: &Table<'_, '_>, limits: &Limits, problems: &mut Problems) -> Vec<u8> {
    let Some(value) = table.get("args") else {
        return Vec::new();
    };
    let args = value::pack(value, problems).unwrap_or_default();
    if args.len() as u64 > limits.message_bytes {
        problems.add(Found::at(
            value.span(),
            format!(
                "`args` has {} bytes, but the limit of a message is {}",
                args.len(),
                limits.message_bytes
            ),
        ));
    }
    args
}

/// Checks that registered names are unique in the node. Patterns are expanded, to at most as many
/// names as there may be children.
fn check_names(names: &[Registered], text: &str, problems: &mut Problems) {
    // One pattern never makes a name twice.
    if names.len() < 2 {
        return;
    }
    let total: u64 = names
        .iter()
        .map(|name| u64::from(name.count.unwrap_or(1)))
        .sum();
    if total > MAX_CHILDREN {
        return; // Too many children, which is reported elsewhere.
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (at, name) in names.iter().enumerate() {
        let made: Vec<String> = match name.count {
            None => vec![name.pattern.clone()],
            Some(count) => (0..count)
                .map(|n| name.pattern.replace("{n}", &n.to_string()))
                .collect(),
        };
        for made in made {
            let first = *seen.entry(made.clone()).or_insert(at);
            if first != at {
                let before = names.get(first).map_or(0, |first| first.span.start);
                let line = text
                    .get(..before)
                    .map_or(1, |before| before.matches('\n').count() + 1);
                problems.add(
                    Found::at(
                        name.span.clone(),
                        format!("the name `{made}` is already used"),
                    )
                    .help(format!("it is first used on line {line}")),
                );
                break;
            }
        }
    }
}
