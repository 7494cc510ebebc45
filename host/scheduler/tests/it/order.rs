//! Compares the order of one worker with a model that is written as plainly as possible.

use std::{collections::VecDeque, sync::Arc};

use exuvia_scheduler::Next;
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::harness::{Fixture, Watch};

const PROCS: usize = 12;

/// One slice of a process: which processes it sends to, and whether it stays runnable.
#[derive(Clone, Debug)]
struct Step {
    sends: Vec<u32>,
    again: bool,
}

/// Scripts, one for each process. A process whose script is finished only waits.
type Scripts = Vec<VecDeque<Step>>;

fn scripts() -> impl Strategy<Value = Scripts> {
    let step = (
        proptest::collection::vec(0..PROCS as u32, 0..5),
        any::<bool>(),
    )
        .prop_map(|(sends, again)| Step { sends, again });
    let script = proptest::collection::vec(step, 0..12).prop_map(VecDeque::from);
    proptest::collection::vec(script, PROCS)
}

/// The documented order, for one worker and an injector that holds only process 0.
#[derive(Default)]
struct Model {
    queue: VecDeque<u32>,
    slot: Option<u32>,
    slot_uses: u32,
    waiting: [bool; PROCS],
    running: Option<u32>,
    woken: bool,
}

impl Model {
    fn send(&mut self, index: u32) {
        if self.running == Some(index) {
            self.woken = true;
        } else if !std::mem::replace(&mut self.waiting[index as usize], true) {
            let displaced = self.slot.replace(index);
            self.queue.extend(displaced);
        }
    }

    fn pick(&mut self) -> Option<u32> {
        if self.slot_uses < 3 && self.slot.is_some() {
            self.slot_uses += 1;
            return self.slot.take();
        }
        if let Some(index) = self.queue.pop_front() {
            self.slot_uses = 0;
            return Some(index);
        }
        self.slot.take()
    }

    fn order(mut scripts: Scripts) -> Vec<u32> {
        let mut model = Model::default();
        let mut order = Vec::new();
        model.waiting[0] = true;
        model.queue.push_back(0);
        while let Some(index) = model.pick() {
            order.push(index);
            model.waiting[index as usize] = false;
            model.running = Some(index);
            model.woken = false;
            let mut again = false;
            if let Some(step) = scripts[index as usize].pop_front() {
                again = step.again;
                step.sends.into_iter().for_each(|to| model.send(to));
            }
            model.running = None;
            if again || model.woken {
                model.waiting[index as usize] = true;
                model.queue.push_back(index);
            }
        }
        order
    }
}

fn order_of_the_scheduler(scripts: Scripts, slices: usize) -> Vec<u32> {
    let order = Watch::<Vec<u32>>::new();
    let scripts = Mutex::new(scripts);
    let fixture = {
        let order = Arc::clone(&order);
        Fixture::new(1, PROCS, move |all, slice| {
            order.update(|order| order.push(slice.index));
            let step = scripts.lock()[slice.index as usize].pop_front();
            match step {
                Some(step) => {
                    step.sends.into_iter().for_each(|to| all.send(to));
                    match step.again {
                        true => Next::Again,
                        false => Next::Idle,
                    }
                }
                None => Next::Idle,
            }
        })
    };
    fixture.procs.send(0);
    order.wait(|order| order.len() >= slices);
    // An extra slice would run before the worker parks with nothing left.
    crate::harness::until(|| fixture.handle.metrics().parked == 1);
    order.update(std::mem::take)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_worker_keeps_the_documented_order(scripts in scripts()) {
        let expected = Model::order(scripts.clone());
        let got = order_of_the_scheduler(scripts, expected.len());
        prop_assert_eq!(got, expected);
    }
}
