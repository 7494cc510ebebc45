//! The supervision tree.

use std::collections::HashMap;

use exuvia_abi::Pid;

use super::{Inspector, SUPERVISOR, describe};
use crate::core::PATIENCE;
use crate::supervision::Question;

/// How deep the tree is followed.
const MOST_DEPTH: usize = 64;

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

impl Inspector<'_> {
    /// Returns the supervision tree, with at most `limit` children in total. Supervisors that
    /// guests have started come after the app's own.
    pub(crate) fn tree(&self, limit: usize) -> Vec<Branch> {
        let mut left = limit;
        let supervisors: Vec<Pid> = self.supervision.supervisors();
        let mut roots: Vec<Pid> = (supervisors.iter())
            .filter(|pid| {
                let parent = self
                    .core
                    .examine(**pid, |process| process.relations_info().parent)
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
                    names: self.core.names_of(root),
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

    /// Adds the children of a supervisor.
    fn grow(&self, branch: &mut Branch, supervisor: Pid, left: &mut usize, depth: usize) {
        let most = *left;
        let children = |reply| Question::Children { most, reply };
        let Some(seen) = self.supervision.ask(supervisor, children, PATIENCE) else {
            branch.state = "busy".into();
            return;
        };
        *left = left.saturating_sub(seen.children.len());
        branch.strategy = Some(seen.strategy.into());
        branch.more = seen.more;
        let pids = seen.children.iter().filter_map(|child| child.pid);
        let release = self.core.code.current();
        let slots: Vec<u32> = pids.map(|pid| pid.slot()).collect();
        let processes: HashMap<String, _> = self
            .core
            .survey_slots(
                slots.into_iter(),
                usize::MAX,
                true,
                PATIENCE,
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
                names: child
                    .pid
                    .map(|pid| self.core.names_of(pid))
                    .unwrap_or_default(),
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
