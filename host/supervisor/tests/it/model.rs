//! A naive supervisor, written as one would in a language where starting and
//! stopping a child are plain calls, with lists that are searched from the
//! front. The machine must do the same in the same order.

use std::collections::VecDeque;

use exuvia_supervisor::{
    ChildState, Event, ExitClass, RequestError, Restart, Strategy, SupervisorSpec, TerminateReason,
};
use proptest::prelude::*;

use crate::world::{Answer, Outcome, Pid, Spec, World, worker};

#[derive(Clone, Debug)]
struct Child {
    id: String,
    restart: Restart,
    state: ChildState<Pid>,
}

#[derive(Debug)]
struct Model {
    spec: SupervisorSpec,
    children: Vec<Child>,
    /// The times of all restarts ever counted.
    restarts: Vec<u64>,
    log: Vec<String>,
    outcomes: VecDeque<Outcome>,
    terminated: Option<TerminateReason<String>>,
    next_pid: Pid,
}

impl Model {
    fn new(spec: SupervisorSpec, children: &[Spec], outcomes: VecDeque<Outcome>) -> Self {
        let children = children
            .iter()
            .map(|child| Child {
                id: child.id.to_string(),
                restart: child.restart,
                state: ChildState::Down,
            })
            .collect();
        let mut model = Self {
            spec,
            children,
            restarts: Vec::new(),
            log: Vec::new(),
            outcomes,
            terminated: None,
            next_pid: 1,
        };
        if let Err((child, _)) = model.start_from(0) {
            model.end(TerminateReason::StartFailed {
                reason: format!("{child} is broken"),
                child: child.into(),
            });
        }
        model
    }

    fn at(&self, id: &str) -> Option<usize> {
        self.children.iter().position(|child| child.id == id)
    }

    /// Starts the child at this position. An error says whether the release caused it.
    fn start(&mut self, at: usize) -> Result<Option<Pid>, bool> {
        let child = &mut self.children[at];
        let outcome = self.outcomes.pop_front().unwrap_or(Outcome::Up);
        match outcome {
            Outcome::Up => {
                let pid = self.next_pid;
                self.next_pid += 1;
                child.state = ChildState::Running(pid);
                self.log.push(format!("+{}", child.id));
                Ok(Some(pid))
            }
            Outcome::Ignored => {
                self.log.push(format!("~{}", child.id));
                self.forget_or_down(at);
                Ok(None)
            }
            Outcome::Failed | Outcome::FailedByRelease => {
                child.state = ChildState::Down;
                self.log.push(format!("!{}", child.id));
                Err(outcome == Outcome::FailedByRelease)
            }
        }
    }

    fn start_from(&mut self, first: usize) -> Result<(), (String, bool)> {
        let ids: Vec<_> = self.children[first..]
            .iter()
            .map(|child| child.id.clone())
            .collect();
        for id in ids {
            let at = self.at(&id).expect("nothing else removes it");
            self.start(at).map_err(|by_release| (id, by_release))?;
        }
        Ok(())
    }

    fn forget_or_down(&mut self, at: usize) {
        if self.children[at].restart == Restart::Temporary {
            self.children.remove(at);
        } else {
            self.children[at].state = ChildState::Down;
        }
    }

    fn stop(&mut self, at: usize) {
        if self.children[at].state.pid().is_some() {
            self.log.push(format!("-{}", self.children[at].id));
        }
        self.forget_or_down(at);
    }

    fn end(&mut self, reason: TerminateReason<String>) {
        while !self.children.is_empty() {
            let last = self.children.len() - 1;
            self.children[last].restart = Restart::Temporary;
            self.stop(last);
        }
        self.terminated = Some(reason);
    }

    fn exit(&mut self, at: usize, now: u64, class: ExitClass, by_release: bool) {
        let child = &mut self.children[at];
        child.state = ChildState::Down;
        let restarts = match child.restart {
            Restart::Permanent => true,
            Restart::Transient => class == ExitClass::Abnormal,
            Restart::Temporary => false,
        };
        if !restarts {
            self.forget_or_down(at);
            return;
        }
        let mut failed = Some((child.id.clone(), by_release));
        while let Some((id, by_release)) = failed {
            failed = self.restart(&id, now, by_release);
        }
    }

    fn restart(&mut self, id: &str, now: u64, by_release: bool) -> Option<(String, bool)> {
        if !by_release {
            self.restarts.push(now);
            let recent = self
                .restarts
                .iter()
                .filter(|&&then| now - then <= self.spec.period_ms)
                .count();
            if recent > self.spec.intensity as usize {
                self.end(TerminateReason::ReachedMaxRestartIntensity { child: id.into() });
                return None;
            }
        }
        let at = self.at(id).expect("a known child");
        let first = match self.spec.strategy {
            Strategy::OneForOne => {
                return self.start(at).err().map(|by| (id.to_string(), by));
            }
            Strategy::OneForAll => 0,
            Strategy::RestForOne => at,
        };
        for at in (first..self.children.len()).rev() {
            self.stop(at);
        }
        self.start_from(first).err()
    }

    fn ask_start(&mut self, spec: &Spec) -> Answer {
        if self.terminated.is_some() {
            return Err(RequestError::NotRunning);
        }
        match self.at(&spec.id).map(|at| self.children[at].state) {
            Some(ChildState::Running(pid)) => return Err(RequestError::AlreadyStarted(pid)),
            Some(_) => return Err(RequestError::AlreadyPresent),
            None => {}
        }
        if self.children.len() >= self.spec.max_children {
            let limit = self.spec.max_children;
            return Err(RequestError::TooManyChildren { limit });
        }
        self.children.push(Child {
            id: spec.id.to_string(),
            restart: spec.restart,
            state: ChildState::Down,
        });
        self.start(self.children.len() - 1).map_err(|_| {
            self.children.pop();
            RequestError::StartFailed(format!("{} is broken", spec.id))
        })
    }

    fn find(&self, id: &str) -> Result<usize, RequestError<Pid, String>> {
        if self.terminated.is_some() {
            return Err(RequestError::NotRunning);
        }
        self.at(id).ok_or(RequestError::NotFound)
    }

    fn find_down(&self, id: &str) -> Result<usize, RequestError<Pid, String>> {
        let at = self.find(id)?;
        match self.children[at].state {
            ChildState::Running(_) => Err(RequestError::Running),
            _ => Ok(at),
        }
    }

    fn ask_terminate(&mut self, id: &str) -> Answer {
        let at = self.find(id)?;
        self.stop(at);
        Ok(None)
    }

    fn ask_restart(&mut self, id: &str) -> Answer {
        let at = self.find_down(id)?;
        self.start(at)
            .map_err(|_| RequestError::StartFailed(format!("{id} is broken")))
    }

    fn ask_delete(&mut self, id: &str) -> Answer {
        let at = self.find_down(id)?;
        self.children.remove(at);
        Ok(None)
    }

    fn states(&self) -> Vec<(String, ChildState<Pid>)> {
        self.children
            .iter()
            .map(|child| (child.id.clone(), child.state))
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Exit {
        which: prop::sample::Index,
        class: ExitClass,
        by_release: bool,
    },
    Start(u8, Restart),
    Terminate(u8),
    Restart(u8),
    Delete(u8),
    Stop,
}

pub(crate) fn classes() -> impl Generate<Value = ExitClass> {
    prop_oneof![
        3 => Just(ExitClass::Abnormal),
        1 => Just(ExitClass::Normal),
        1 => Just(ExitClass::Shutdown),
    ]
}

pub(crate) fn restarts() -> impl Generate<Value = Restart> {
    prop_oneof![
        2 => Just(Restart::Permanent),
        1 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ]
}

pub(crate) fn outcomes() -> impl Generate<Value = Outcome> {
    prop_oneof![
        8 => Just(Outcome::Up),
        1 => Just(Outcome::Ignored),
        2 => Just(Outcome::Failed),
        1 => Just(Outcome::FailedByRelease),
    ]
}

pub(crate) fn strategies() -> impl Generate<Value = Strategy> {
    prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
    ]
}

fn steps() -> impl Generate<Value = Step> {
    prop_oneof![
        4 => (0_u64..60).prop_map(Step::Advance),
        10 => (any::<prop::sample::Index>(), classes(), prop::bool::weighted(0.2)).prop_map(
            |(which, class, by_release)| Step::Exit { which, class, by_release }
        ),
        4 => (0_u8..8, restarts()).prop_map(|(id, restart)| Step::Start(id, restart)),
        2 => (0_u8..8).prop_map(Step::Terminate),
        2 => (0_u8..8).prop_map(Step::Restart),
        2 => (0_u8..8).prop_map(Step::Delete),
        1 => Just(Step::Stop),
    ]
}

/// proptest's trait, beside the supervisor's enum of the same name.
pub(crate) use proptest::strategy::Strategy as Generate;

fn id(n: u8) -> String {
    format!("c{n}")
}

fn perform(step: &Step, world: &mut World, model: &mut Model) -> Result<(), TestCaseError> {
    let (request, answer) = match step {
        Step::Advance(ms) => {
            world.advance(*ms);
            return Ok(());
        }
        Step::Exit {
            which,
            class,
            by_release,
        } => {
            if !world.live.is_empty() {
                let pid = *which.get(&world.live.keys().copied().collect::<Vec<_>>());
                let at = model
                    .children
                    .iter()
                    .position(|child| child.state == ChildState::Running(pid))
                    .expect("the model runs the same processes");
                model.exit(at, world.now_ms, *class, *by_release);
                world.exit_pid(pid, *class, *by_release);
            }
            return Ok(());
        }
        Step::Start(n, restart) => {
            let spec = worker(&id(*n)).restart(*restart);
            let answer = model.ask_start(&spec);
            (world.ask_start(spec), answer)
        }
        Step::Terminate(n) => (world.ask_terminate(&id(*n)), model.ask_terminate(&id(*n))),
        Step::Restart(n) => (world.ask_restart(&id(*n)), model.ask_restart(&id(*n))),
        Step::Delete(n) => (world.ask_delete(&id(*n)), model.ask_delete(&id(*n))),
        Step::Stop => {
            if model.terminated.is_none() {
                model.end(TerminateReason::Shutdown);
            }
            world.send(Event::Stop);
            return Ok(());
        }
    };
    prop_assert_eq!(world.answer(request), Some(answer));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_machine_agrees_with_the_model(
        strategy in strategies(),
        intensity in 0_u32..5,
        period_ms in 1_u64..150,
        children in prop::collection::vec(restarts(), 0..6),
        outcomes in prop::collection::vec(outcomes(), 0..40),
        steps in prop::collection::vec(steps(), 0..50),
    ) {
        let spec = SupervisorSpec { strategy, intensity, period_ms, max_children: 7 };
        let children: Vec<_> = (0..)
            .zip(children)
            .map(|(n, restart)| worker(&id(n)).restart(restart))
            .collect();
        let mut model = Model::new(spec.clone(), &children, outcomes.iter().copied().collect());
        let mut world = World::new(spec, children);
        world.outcomes = outcomes.into();
        world.send(Event::Start);
        prop_assert_eq!(&world.log, &model.log);
        for step in &steps {
            perform(step, &mut world, &mut model)?;
            prop_assert_eq!(&world.log, &model.log, "after {:?}", step);
            prop_assert_eq!(world.states(), model.states(), "after {:?}", step);
            prop_assert_eq!(&world.terminated, &model.terminated, "after {:?}", step);
        }
    }
}
