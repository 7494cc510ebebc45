//! Each host call in a transaction, as the table of calls says: a deferred call has no effect
//! until the commit, one that is rolled back leaves nothing after an abort, one that commits ends
//! the transaction, and a free one does neither.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use exuvia_abi::{Code, HOST_CALLS, HostCall, Priority, Probation, info, spawn, table};
use exuvia_process::call::spawn::SpawnOptions;
use exuvia_process::call::{CallServices, Caller, NewGuest, ReductionDebt, Runner, Sent};
use exuvia_process::transaction::{self, Transaction};
use exuvia_process::{
    Access, Body, Clock, Context, Envelope, GrantRequest, Kind, Limits, Native, Payload, Pid,
    Process, Selector, Signal, SpawnSpec, System,
};

/// A guest without code that may be in a transaction.
#[derive(Debug, Default)]
struct Guest(Option<Transaction<Guest>>);

impl Runner for Guest {
    fn transaction(&mut self) -> Option<&mut Transaction<Guest>> {
        self.0.as_mut()
    }

    fn take_transaction(&mut self) -> Option<Transaction<Guest>> {
        self.0.take()
    }

    fn module(&self) -> &str {
        "guest"
    }

    fn upgrades(&self) -> u32 {
        3
    }
}

struct Services;

struct Idle;

impl Native<Guest> for Idle {
    fn handle(&mut self, _: &mut Context<'_, Guest>, _: Envelope) {}
}

impl CallServices<Guest> for Services {
    fn new_guest(&self, _: &str) -> Option<NewGuest<Guest>> {
        Some(NewGuest {
            guest: Guest::default(),
            memory_bytes: 0,
        })
    }

    fn may_wait(&self, _: &mut Process<Guest>) -> bool {
        true
    }

    fn grants(&self, _: &[u8]) -> Option<Result<GrantRequest, String>> {
        None
    }

    fn supervisor(
        &self,
        _: &[u8],
        _: &Arc<Limits>,
    ) -> Option<Result<Box<dyn Native<Guest>>, String>> {
        Some(Ok(Box::new(Idle)))
    }

    fn config(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn trace_sent(&self, _: &mut Process<Guest>, _: Pid, _: &Sent<'_>) {}

    fn trace_received(&self, _: &mut Process<Guest>, _: &Envelope) {}
}

/// A process that makes calls, and all that they may concern.
struct World {
    system: System<Guest>,
    process: Box<Process<Guest>>,
    peer: Pid,
    linked: Pid,
    table: u64,
    timer: u64,
    monitor: u64,
}

/// The reference of a request of `peer`.
const REQUEST: u64 = 99;

impl World {
    fn new() -> World {
        let system = System::new(7, 16, 1, Clock::manual());
        let limits = Arc::new(Limits::default());
        let spec = || {
            let guest = Body::Guest(Guest::default());
            SpawnSpec::new(guest, limits.clone(), Payload::empty())
        };
        let (peer, linked) = (system.spawn(spec()).unwrap(), system.spawn(spec()).unwrap());
        let starter = SpawnSpec {
            parent: peer,
            starter: Some(5),
            ..spec()
        };
        let pid = system.spawn(starter).unwrap();
        let slot = system.table.slot(pid.slot()).unwrap();
        assert!(slot.state.transition_to_running());
        let mut process = slot.take_process().unwrap();
        // The state before the transaction.
        process.link(&system, linked);
        let monitor = process.new_reference();
        process.monitor(&system, linked, monitor);
        process.deliver(Envelope {
            reference: REQUEST,
            kind: Kind::Request,
            ..Envelope::message(peer, 0, Payload::empty())
        });
        system.register("mine", pid).unwrap();
        system.join("mine", pid).unwrap();
        system.join("peers", peer).unwrap();
        let table = system.new_table(pid, &limits, Some("mine"), Access::Public);
        let table = table.unwrap();
        let number = Payload::new(&7_i64.to_le_bytes());
        let rows = system.tables.get(table).unwrap();
        rows.put(pid, b"key", &number, true).unwrap();
        let mut world = World {
            system,
            process,
            peer,
            linked,
            table,
            timer: 0,
            monitor,
        };
        let to = world.peer;
        let set = HostCall::named("send_after");
        world.timer = world.call(set, |caller| caller.send_after(to, 0, b"", 1_000).unwrap());
        world
    }

    fn call<T>(
        &mut self,
        call: &HostCall,
        make: impl FnOnce(&mut Caller<'_, Guest, Services>) -> T,
    ) -> T {
        let mut debt = ReductionDebt::default();
        make(&mut Caller::new(
            &mut self.process,
            &self.system,
            &Services,
            &mut debt,
            call,
        ))
    }

    fn begin(&mut self) {
        self.process.guest().unwrap().0 = Some(Transaction::default());
    }

    fn is_open(&mut self) -> bool {
        transaction::open(&mut self.process).is_some()
    }

    fn commit(&mut self) {
        let _ = transaction::commit(&mut self.process, &self.system);
    }

    fn abort(&mut self) {
        let open = transaction::take(&mut self.process).unwrap();
        open.abort(&mut self.process, &self.system);
    }

    /// What other processes, or a later call of this one, can see.
    fn seen(&self) -> String {
        let (system, pid) = (&self.system, self.process.pid());
        let arrived = |pid: Pid| system.table.slot(pid.slot()).unwrap().mailbox.len();
        let heir = system.tables.set_heir(pid, self.table, None);
        if let Ok(heir) = heir {
            system.tables.set_heir(pid, self.table, heir).unwrap();
        }
        let row = system.tables.get(self.table).map(|table| {
            let get = |key: &[u8]| table.get(pid, key).unwrap().map(|v| v.as_slice().to_vec());
            (table.owner(), get(b"key"), get(b"new"))
        });
        format!(
            "{:?}",
            (
                (arrived(self.peer), arrived(self.linked), arrived(pid)),
                (system.names.of(pid), system.tables.find("new"), heir, row),
                (
                    system.groups.members("mine").len(),
                    system.groups.members("new").len(),
                ),
                (system.timers.next(0), self.process.relations_info()),
                self.process.is_starting(),
                system.table.slot(pid.slot()).unwrap().priority(),
            )
        )
    }

    /// The same, with what is only reserved.
    fn all(&self) -> String {
        let timers = self.system.timers.len();
        format!("{} {} {timers}", self.seen(), self.system.table.alive())
    }

    /// Makes a call of this name whose effect can be seen. Returns false for a call that is not a
    /// method of a process.
    fn make(&mut self, call: &'static HostCall) -> bool {
        let World {
            peer,
            linked,
            table: id,
            timer,
            monitor,
            ..
        } = *self;
        let me = self.process.pid();
        self.call(call, |caller| {
            match call.name {
                "receive" => drop(caller.receive(&Selector::Any).unwrap()),
                "send" => caller.send(peer, 1, b"x").unwrap(),
                "request" => drop(caller.request(peer, 1, b"x").unwrap()),
                "call" => drop(caller.call(peer, 1, b"x", true).unwrap()),
                "reply" => caller.reply(peer, REQUEST, 0, b"x").unwrap(),
                "spawn" => {
                    let options = SpawnOptions {
                        flags: spawn::LINK,
                        ..SpawnOptions::default()
                    };
                    caller.spawn(b"", b"x", &options).unwrap();
                }
                "init_ack" => caller.init_ack(0, b"").unwrap(),
                "exit_process" => caller.exit_process(peer, 256, b"x").unwrap(),
                "kill" => caller.kill(peer).unwrap(),
                "link" => caller.link(peer).unwrap(),
                "unlink" => caller.unlink(linked).unwrap(),
                "monitor" => drop(caller.monitor(peer).unwrap()),
                "monitor_name" => drop(caller.monitor_name(b"nothing").unwrap()),
                "demonitor" => caller.demonitor(monitor, 0).unwrap(),
                "trap_exit" => drop(caller.trap_exit(true)),
                "register" => caller.register(b"new", me).unwrap(),
                "unregister" => caller.unregister(b"mine").unwrap(),
                "whereis" => drop(caller.whereis(b"mine").unwrap()),
                "send_after" => drop(caller.send_after(peer, 1, b"x", 1).unwrap()),
                "cancel_timer" => drop(caller.cancel_timer(timer).unwrap()),
                "sleep" => drop(caller.sleep(0).unwrap()),
                "info" => drop(caller.info(info::MAILBOX).unwrap()),
                "supervisor_start" => drop(caller.supervisor_start(b"").unwrap()),
                "set_priority" => drop(caller.set_priority(Priority::Low as u32).unwrap()),
                "config" => drop(caller.config(b"key").unwrap_err()),
                "group_join" => caller.group_join(b"new", me).unwrap(),
                "group_leave" => caller.group_leave(b"mine", me).unwrap(),
                "group_members" => drop(caller.group_members(b"mine").unwrap()),
                "publish" => drop(caller.publish(b"peers", 1, b"x").unwrap()),
                "table_new" => drop(caller.table_new(b"new", table::PRIVATE).unwrap()),
                "table_find" => drop(caller.table_find(b"mine").unwrap()),
                "table_put" => drop(caller.table_put(id, b"new", b"x", 0).unwrap()),
                "table_get" => drop(caller.table_get(id, b"key").unwrap()),
                "table_delete" => drop(caller.table_delete(id, b"key").unwrap()),
                "table_next" => drop(caller.table_next(id, b"").unwrap()),
                "table_add" => drop(caller.table_add(id, b"key", 5).unwrap()),
                "table_info" => drop(caller.table_info(id, table::ROWS).unwrap()),
                "table_heir" => caller.table_heir(id, Some((peer, 1))).unwrap(),
                "table_give" => caller.table_give(id, peer, 1).unwrap(),
                "table_end" => caller.table_end(id).unwrap(),
                // They end the process, or need no process.
                "exit" | "self" | "log" | "random" | "clock" | "state_put" | "state_get"
                | "discard" => return false,
                name => panic!("`{name}` is new: add how it is made"),
            }
            true
        })
    }
}

#[test]
fn every_call_behaves_in_a_transaction_as_the_table_says() {
    for call in HOST_CALLS {
        let name = call.name;
        let mut world = World::new();
        let (seen, all) = (world.seen(), world.all());
        world.begin();
        if !world.make(call) {
            world.abort();
            continue;
        }
        let after = world.seen();
        match call.probation {
            Probation::Free => {
                assert_eq!(after, seen, "`{name}` has an effect");
                assert!(world.is_open(), "`{name}` ends the transaction");
                world.abort();
            }
            Probation::Deferred => {
                assert_eq!(after, seen, "`{name}` does not wait for the commit");
                world.abort();
                assert_eq!(world.all(), all, "`{name}` is not discarded");
                world.begin();
                world.make(call);
                world.commit();
                assert_ne!(world.seen(), seen, "`{name}` is lost");
            }
            Probation::RolledBack => {
                assert_ne!(after, seen, "`{name}` waits for the commit");
                world.abort();
                assert_eq!(world.all(), all, "`{name}` is not undone");
                world.begin();
                world.make(call);
                let after = world.seen();
                world.commit();
                assert_eq!(world.seen(), after, "`{name}` is undone by a commit");
            }
            Probation::Commits => {
                assert!(!world.is_open(), "`{name}` leaves the transaction open");
            }
        }
    }
}

/// A mailbox of this size refuses the second message.
#[test]
fn what_would_be_refused_now_is_refused_in_a_transaction() {
    let mut world = World::new();
    let full = Arc::new(Limits {
        mailbox_messages: 1,
        ..Limits::default()
    });
    let spec = SpawnSpec::new(Body::Guest(Guest::default()), full, Payload::empty());
    let peer = world.system.spawn(spec).unwrap();
    let (send, publish) = (HostCall::named("send"), HostCall::named("publish"));
    world.system.join("full", peer).unwrap();
    world.begin();
    assert!(world.call(send, |caller| caller.send(peer, 0, b"")).is_ok());
    // Nothing is there yet, so one more would be accepted: only the commit finds the mailbox full.
    let reached = world.call(publish, |caller| caller.publish(b"full", 0, b"").unwrap());
    assert_eq!(format!("{reached:?}"), "Reached(1)");
    world.commit();
    world.begin();
    let code = Code::MailboxFull;
    let refused = world.call(send, |caller| caller.send(peer, 0, b""));
    assert_eq!(refused, Err(code.into()));
    let refused = world.call(HostCall::named("request"), |caller| {
        caller.request(peer, 0, b"")
    });
    assert_eq!(refused, Err(code.into()));
    let reached = world.call(publish, |caller| caller.publish(b"full", 0, b"").unwrap());
    assert_eq!(format!("{reached:?}"), "Reached(0)");
    world.abort();
    // One message, and a signal is never refused.
    let slot = world.system.table.slot(peer.slot()).unwrap();
    assert_eq!(slot.mailbox.len(), 1);
    let kill = Signal::Kill {
        from: world.process.pid(),
    };
    assert!(world.system.signal(peer, kill).is_ok());
}

/// A guest that repeats a call until it is accepted does not lose its transaction.
#[test]
fn a_payload_that_was_refused_does_not_count_for_the_transaction() {
    let mut world = World::new();
    let most = world.process.limits().clone();
    let payload = vec![0; most.message_bytes as usize];
    let too_many = most.mailbox_bytes / payload.len() as u64 + 1;
    // Nothing fits into the mailbox and the tables of this one, and it has no children.
    let narrow = Arc::new(Limits {
        mailbox_bytes: 0,
        ..Limits::default()
    });
    let spec = SpawnSpec::new(Body::Guest(Guest::default()), narrow, Payload::empty());
    let full = world.system.spawn(spec).unwrap();
    let limits = Arc::new(Limits {
        children: 0,
        ..Limits::clone(&most)
    });
    world.process.set_limits(&world.system, limits);
    let id = world.table;
    for name in ["send", "request", "spawn", "send_after", "table_put"] {
        let call = HostCall::named(name);
        // Of the bytes of timers, none are left.
        let charge = (name == "send_after").then(|| {
            world
                .process
                .charge(&world.system, most.mailbox_bytes - 2_000)
        });
        world.begin();
        for _ in 0..too_many {
            world.call(call, |caller| match name {
                "send" => drop(caller.send(full, 1, &payload).unwrap_err()),
                "request" => drop(caller.request(full, 1, &payload).unwrap_err()),
                "spawn" => {
                    let options = SpawnOptions::default();
                    drop(caller.spawn(b"", &payload, &options).unwrap_err());
                }
                "send_after" => drop(caller.send_after(full, 1, &payload, 1).unwrap_err()),
                _ => {
                    let new = table::NEW;
                    assert!(caller.table_put(id, b"key", &payload, new).unwrap());
                }
            });
        }
        let (send, to) = (HostCall::named("send"), world.peer);
        world.call(send, |caller| caller.send(to, 1, b"").unwrap());
        assert!(world.is_open(), "`{name}` ends the transaction");
        world.abort();
        drop(charge);
    }
}

/// Else its parent would look for too many grants where there is a wrong flag.
#[test]
fn arguments_of_a_spawn_are_checked_before_its_grants() {
    let mut world = World::new();
    let grants = vec![0; 70_000];
    let mut spawn = |module: &[u8], flags, priority| {
        let options = SpawnOptions {
            flags,
            priority,
            grants: &grants,
            ..SpawnOptions::default()
        };
        world.call(HostCall::named("spawn"), |caller| {
            caller.spawn(module, b"", &options)
        })
    };
    let bad = Err(Code::BadArgument.into());
    assert_eq!(spawn(b"", 64, 0), bad);
    assert_eq!(spawn(b"\xff", 0, 0), bad);
    assert_eq!(spawn(b"", 0, 9), bad);
    assert_eq!(spawn(b"", 0, 0), Err(Code::Limit.into()));
}

/// Also those that send nothing, as `cancel_timer`.
#[test]
fn each_deferred_call_is_charged_when_it_takes_effect() {
    for call in HOST_CALLS {
        if call.probation != Probation::Deferred {
            continue;
        }
        let mut world = World::new();
        world.begin();
        if world.make(call) {
            let cost = transaction::commit(&mut world.process, &world.system);
            assert!(cost > 0, "`{}` costs nothing", call.name);
        }
        if world.is_open() {
            world.abort();
        }
    }
}
