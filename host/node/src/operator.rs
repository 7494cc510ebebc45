//! What an operator does with processes: kills and restarts them, asks what messages they
//! understand, and shows the supervision tree.

use std::thread;
use std::time::Duration;

use exuvia_abi::{Pid, Reason};
use exuvia_process::{ExitReason, Signal};
use serde::Deserialize;

use crate::error::{RestartFailed, TargetError};
use crate::event::{Event, Level};
use crate::inspect::{SUPERVISOR, describe};
use crate::node::Node;
use crate::supervision::{Asked, ask};

/// How long a kill waits until the process has exited.
const ENDING: Duration = Duration::from_secs(1);
/// How long a message is followed to its receiver.
const HEARING: Duration = Duration::from_millis(200);
/// The interval between two checks meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// How long a supervisor may take to reply; a restart takes the `shutdown` of the child and its
/// start.
const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum number of the receiver's log lines that are returned.
const MOST_WARNINGS: usize = 5;
/// How deep the tree is followed.
const MOST_DEPTH: usize = 64;

/// What messages a process understands, as far as its module describes them.
#[derive(Clone, Debug)]
pub struct Description {
    /// `<slot.generation>`.
    pub pid: String,
    /// `module@version`.
    pub module: Option<String>,
    /// The functions of its protocol; empty if the module does not describe any.
    pub functions: Vec<Function>,
    /// What is wrong with the module's section, if it cannot be read.
    pub unreadable: Option<String>,
}

/// A function of a protocol, as a module describes it in its section `exuvia.protocol`
/// (`guest-sdk/abi.md`, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// The type of its reply; `None`: it is a message, which has no reply.
    #[serde(default)]
    pub reply: Option<String>,
    /// Its name in the message; by default that of the function.
    #[serde(default)]
    pub message: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub docs: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, as the module's language writes it.
    #[serde(rename = "type", default)]
    pub ty: String,
}

/// A process in the supervision tree.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The id of the child; `None` at the root.
    pub id: Option<String>,
    /// The pid; `None` while it does not run.
    pub pid: Option<String>,
    /// Registered names.
    pub names: Vec<String>,
    /// `module@version`; `None` for a supervisor.
    pub module: Option<String>,
    /// The state of the child in its supervisor: `running`, `down`, `starting`, `restarting`,
    /// `stopping` or `exited`.
    pub state: String,
    /// The state of the process, as `ps` shows it.
    pub process: Option<String>,
    /// `permanent`, `transient` or `temporary`; `None` at the root.
    pub restart: Option<String>,
    /// The strategy of a supervisor: `one_for_one`, `one_for_all` or `rest_for_one`.
    pub strategy: Option<String>,
    /// Its children, in start order.
    pub children: Vec<Branch>,
    /// The number of children that are not listed, because of the limit.
    pub more: usize,
}

impl Node {
    /// Kills a process, which can neither trap nor delay that, and waits up to a second for its
    /// exit. Returns whether it has exited. Linked processes and the log get the reason.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is the host's own, or the app's root supervisor.
    pub fn end(&self, pid: Pid, why: Option<&str>) -> Result<bool, TargetError> {
        let system = &self.0.system;
        let gone = || TargetError::NoProcess(pid.to_string());
        if self.0.root.get() == Some(&pid) && system.is_alive(pid) {
            return Err(TargetError::Root(pid.to_string()));
        }
        let is_host = self.look_at(pid, |process| process.guest().is_none());
        match is_host {
            Ok(true) if !self.is_supervisor(pid) => {
                return Err(TargetError::Native(pid.to_string()));
            }
            Err(error @ TargetError::NoProcess(_)) => return Err(error),
            // Killing a busy process is what this is for.
            _ => {}
        }
        let reason = match why {
            None => ExitReason::new(Reason::KILLED),
            Some(why) => ExitReason::with(Reason::KILLED.0, why.as_bytes()),
        };
        let kill = Signal::Exit {
            from: Pid::NONE,
            reason,
            linked: false,
        };
        system.signal(pid, kill).map_err(|_| gone())?;
        let looks = ENDING.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if !system.is_alive(pid) {
                return Ok(true);
            }
            thread::park_timeout(LOOK);
        }
        Ok(false)
    }

    /// Has a child's supervisor stop it, as at the end of the app, and start it again. This does
    /// not count towards the restart intensity. Returns the pid of the new process.
    ///
    /// # Errors
    ///
    /// If the process cannot be inspected, it has no supervisor, its supervisor does not reply, or
    /// the new process does not start.
    pub fn restart(&self, pid: Pid) -> Result<Pid, RestartFailed> {
        let parent = self.look_at(pid, |process| process.relations_info().parent)?;
        let supervisor = parent
            .filter(|parent| self.is_supervisor(*parent))
            .ok_or(RestartFailed::NoSupervisor(pid))?;
        let asked = |answer| Asked::Restart { pid, answer };
        ask(self, supervisor, asked, PATIENCE)
            .ok_or(RestartFailed::NoAnswer { pid, supervisor })?
            .map_err(|why| RestartFailed::Refused { pid, why })
    }

    /// Returns whether a process is a supervisor of the host.
    pub fn is_supervisor(&self, pid: Pid) -> bool {
        self.0.asks.lock().contains_key(&pid)
    }

    /// Returns what messages a process understands.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn description(&self, pid: Pid) -> Result<Description, TargetError> {
        let version = self.look_at(pid, |process| {
            process.guest().map(|guest| guest.version.version().clone())
        })?;
        let version = version.ok_or_else(|| TargetError::Native(pid.to_string()))?;
        let (functions, unreadable) = match functions(version.artifact.protocol()) {
            Ok(functions) => (functions, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Ok(Description {
            pid: pid.to_string(),
            module: Some(version.to_string()),
            functions,
            unreadable,
        })
    }

    /// Sends a message from outside the node, and follows it for up to 200 ms. Returns what the
    /// receiver logs as a warning or an error meanwhile, for example that it dropped the message,
    /// and whether it is suspended or has exited.
    ///
    /// # Errors
    ///
    /// As [`Node::send`].
    pub fn send_and_observe(
        &self,
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Vec<String>, crate::error::SendFailed> {
        let mut events = self.0.events.listen();
        self.send(to, tag, payload)?;
        let mut warnings = Vec::new();
        let looks = HEARING.as_millis() / LOOK.as_millis();
        let slot = self.0.system.table.slot(to.slot());
        for _ in 0..looks {
            // Messages may be behind the control, so the mailbox must be empty too.
            let waiting = slot.is_some_and(|slot| !slot.mailbox.is_empty());
            let seen = self.look_at(to, |process| {
                let inbox = process.messages();
                let suspended = process.suspended;
                process
                    .guest()
                    .map(|guest| (inbox, suspended, guest.stands_still()))
            });
            match seen {
                Ok(Some((_, true, _))) => {
                    warnings.push(
                        "it is suspended and will receive the message when it is resumed"
                            .to_owned(),
                    );
                    break;
                }
                Ok(Some((0, false, true))) if !waiting => break,
                Ok(Some(_)) => thread::park_timeout(LOOK),
                _ => break,
            }
        }
        let pid = to.to_string();
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Log {
                    pid: of,
                    level: Level::Warn | Level::Error,
                    text,
                    ..
                } if of == pid => warnings.push(text),
                Event::Exit {
                    pid: of, reason, ..
                } if of == pid => warnings.push(format!("it has ended: {reason}")),
                _ => {}
            }
        }
        warnings.truncate(MOST_WARNINGS);
        Ok(warnings)
    }

    /// Returns the supervision tree, with at most `limit` children in total. Supervisors that
    /// guests have started come after the app's own.
    pub fn tree(&self, limit: usize) -> Vec<Branch> {
        let mut left = limit;
        let supervisors: Vec<Pid> = self.0.asks.lock().keys().copied().collect();
        let mut roots: Vec<Pid> = (supervisors.iter())
            .filter(|pid| {
                let parent = self
                    .look_at(**pid, |process| process.relations_info().parent)
                    .ok()
                    .flatten();
                parent.is_none_or(|parent| !supervisors.contains(&parent))
            })
            .copied()
            .collect();
        roots.sort_by_key(|pid| pid.slot());
        (roots.into_iter())
            .map(|root| {
                let mut branch = Branch {
                    id: None,
                    pid: Some(root.to_string()),
                    names: self.names_of(root),
                    module: None,
                    state: "running".into(),
                    process: None,
                    restart: None,
                    strategy: None,
                    children: Vec::new(),
                    more: 0,
                };
                self.grow(&mut branch, root, &mut left, MOST_DEPTH);
                branch
            })
            .collect()
    }

    fn names_of(&self, pid: Pid) -> Vec<String> {
        let names = self.0.system.names.of(pid);
        names.iter().map(ToString::to_string).collect()
    }

    /// Adds the children of a supervisor.
    fn grow(&self, branch: &mut Branch, supervisor: Pid, left: &mut usize, depth: usize) {
        let most = *left;
        let asked = |answer| Asked::Children { most, answer };
        let Some(seen) = ask(self, supervisor, asked, HEARING) else {
            branch.state = "busy".into();
            return;
        };
        *left = left.saturating_sub(seen.children.len());
        branch.strategy = Some(seen.strategy.into());
        branch.more = seen.more;
        let pids = seen.children.iter().filter_map(|child| child.pid);
        let release = self.0.code.current();
        let slots: Vec<u32> = pids.map(|pid| pid.slot()).collect();
        let processes: std::collections::HashMap<String, _> = self
            .survey_slots(
                slots.into_iter(),
                usize::MAX,
                true,
                HEARING,
                move |process| Some(describe(process, &release)),
            )
            .into_iter()
            .map(|info| (info.pid.clone(), info))
            .collect();
        for child in seen.children {
            let pid = child.pid.map(|pid| pid.to_string());
            let process = pid.as_ref().and_then(|pid| processes.get(pid));
            let mut below = Branch {
                id: Some(child.id),
                names: child.pid.map(|pid| self.names_of(pid)).unwrap_or_default(),
                module: process.and_then(|process| process.module.clone()),
                state: child.state.into(),
                process: process.map(|process| match child.supervises {
                    true => SUPERVISOR.into(),
                    false => process.state.clone(),
                }),
                restart: Some(child.restart.into()),
                strategy: None,
                children: Vec::new(),
                more: 0,
                pid,
            };
            if let Some(pid) = child.pid.filter(|_| child.supervises && depth > 0) {
                self.grow(&mut below, pid, left, depth - 1);
            }
            branch.children.push(below);
        }
    }
}

/// Reads the section: one line of JSON for each function. Sorted by name, since the order in the
/// section depends on the compiler and the linker.
fn functions(section: &[u8]) -> Result<Vec<Function>, String> {
    let text = std::str::from_utf8(section).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate();
    let functions: Result<Vec<Function>, String> = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
        })
        .collect();
    let mut functions = functions?;
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn a_protocol_has_one_line_per_function() {
        // The order in the section does not matter.
        let text = b"{\"name\":\"get\",\"reply\":\"i64\"}\n\n{\"name\":\"add\",\"parameters\":[{\"name\":\"by\",\"type\":\"i64\"}],\"message\":\"Add\"}";
        let functions = functions(text).unwrap();
        assert_eq!(functions.len(), 2);
        assert_eq!(functions[0].parameters[0].ty, "i64");
        assert_eq!(functions[0].message.as_deref(), Some("Add"));
        assert_eq!(functions[1].reply.as_deref(), Some("i64"));
    }

    #[test]
    fn an_unreadable_section_is_reported_with_its_offset() {
        let error = functions(b"{\"name\":\"a\"}\nnothing").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(functions(b"\xff").is_err());
        assert!(functions(b"").unwrap().is_empty());
    }
}
