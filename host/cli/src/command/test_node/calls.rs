//! Host calls of a test: a decoder over the methods that serve guests too
//! (`exuvia_process::call`). What is decided here is only how a call waits: by advancing the
//! clock.

use std::time::Duration;

use exuvia_node::HostCaller;
use exuvia_node::abi::{Code, HostCall, Pid, receive};
use exuvia_node::process::call::groups::Published;
use exuvia_node::process::call::info::read_clock;
use exuvia_node::process::call::messages::{Replied, receive_mode};
use exuvia_node::process::call::spawn::{SpawnOptions, Spawned};
use exuvia_node::process::call::{CallError, CallResult};
use exuvia_node::process::{Envelope, Payload, Selector};

use super::Server;
use super::wire::{Request, Response};

/// How far the clock is advanced for a wait without a timeout.
const FOREVER: Duration = Duration::from_secs(3_600);

/// A call that was made, or that was not since its process has ended.
type Made<T> = Result<CallResult<T>, String>;

/// The response to a call: what it returned, or its code.
fn response<T>(made: Made<T>, encode: impl FnOnce(T) -> Response) -> Result<Response, String> {
    match made? {
        Ok(value) => Ok(encode(value)),
        Err(CallError::Code(code)) => Ok(Response::code(code)),
        Err(CallError::Ends(ending)) => Err(format!("the test's process has ended: {ending:?}")),
    }
}

fn done(made: Made<()>) -> Result<Response, String> {
    response(made, |()| Response::code(Code::Ok))
}

fn number(number: impl TryInto<i64>) -> Response {
    Response::new(number.try_into().unwrap_or(i64::MAX))
}

fn reference(made: Made<u64>) -> Result<Response, String> {
    response(made, |reference| Response::new(0).reference(reference))
}

/// Bytes that were found, or EMPTY.
fn found<B: AsRef<[u8]>>(made: Made<Option<B>>) -> Result<Response, String> {
    response(made, |found| match found {
        Some(bytes) => Response::new(0).bytes(bytes.as_ref()),
        None => Response::code(Code::Empty),
    })
}

impl Server {
    /// Makes a host call on behalf of the test's process.
    pub(super) fn call(
        &mut self,
        call: &'static HostCall,
        q: &mut Request<'_>,
    ) -> Result<Response, String> {
        // First let everything that the test caused before finish; otherwise two processes that
        // the test has messaged would run in an arbitrary order.
        self.settle()?;
        match call.family {
            "messages" => self.messages(call, q),
            "timers" => self.timers(call, q),
            "spawn" => self.spawn(call, q),
            "relations" => self.relations(call, q),
            "names" | "groups" => self.names(call, q),
            "tables" => self.tables(call, q),
            "info" => self.info(call, q),
            _ => Err(unserved(call)),
        }
    }

    fn make<T: Send + 'static>(
        &self,
        call: &'static HostCall,
        make: impl FnOnce(&mut HostCaller<'_>) -> CallResult<T> + Send + 'static,
    ) -> Made<T> {
        let made = self.probe.call(call, make);
        made.map_err(|error| error.to_string())
    }

    /// Repeats `check`, advancing the clock by at most `milliseconds` (negative: an hour), until
    /// it returns something.
    fn wait<T: Send + 'static>(
        &self,
        call: &'static HostCall,
        milliseconds: i64,
        check: impl Fn(&mut HostCaller<'_>) -> CallResult<Option<T>> + Send + Clone + 'static,
    ) -> Made<Option<T>> {
        let clock = &self.node.system().clock;
        let wait = u64::try_from(milliseconds).map_or(FOREVER, Duration::from_millis);
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let until = clock.now().saturating_add(wait);
        loop {
            self.settle()?;
            match self.make(call, check.clone())? {
                Ok(None) => {}
                over => return Ok(over),
            }
            let now = clock.now();
            if now >= until {
                return Ok(Ok(None));
            }
            let next = self.node.next_timer().unwrap_or(until).clamp(now, until);
            self.advance(Duration::from_nanos(next - now))?;
        }
    }

    fn messages(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        if call.name == "receive" {
            let (mode, key, timeout) = (q.int()?, q.reference()?, q.number()?);
            return self.receive(call, (mode, key, q.bytes()?), timeout);
        }
        let to = q.pid()?;
        match call.name {
            "send" => {
                let (tag, data) = (q.word()?, q.bytes()?);
                done(self.make(call, move |caller| caller.send(to, tag, &data)))
            }
            "request" => {
                let (tag, data) = (q.word()?, q.bytes()?);
                reference(self.make(call, move |caller| caller.request(to, tag, &data)))
            }
            "call" => {
                let (tag, data, timeout) = (q.word()?, q.bytes()?, q.number()?);
                self.call_and_wait(call, to, (tag, data), timeout)
            }
            "reply" => {
                let (reference, tag, data) = (q.reference()?, q.word()?, q.bytes()?);
                done(self.make(call, move |caller| caller.reply(to, reference, tag, &data)))
            }
            _ => Err(unserved(call)),
        }
    }

    /// Takes a message of a mode, a number, and what a guest's key would point to.
    fn receive(
        &self,
        call: &'static HostCall,
        (mode, key, of): (i32, u64, Vec<u8>),
        timeout: i64,
    ) -> Result<Response, String> {
        let select = move |caller: &mut HostCaller<'_>| -> CallResult<Selector> {
            let (mode, _) = receive_mode(mode, timeout)?;
            Ok(match mode {
                receive::ANY => Selector::Any,
                receive::TAG => Selector::Tag(key),
                receive::REFERENCE => Selector::Reference(key),
                receive::SENDER => {
                    let sender = (*of).try_into().map_err(|_| Code::BadArgument)?;
                    caller.messages_of(Pid::from_bytes(sender))?
                }
                _ => Selector::references(&of)?,
            })
        };
        let wanted = match self.make(call, select)? {
            Ok(wanted) => wanted,
            Err(error) => return done(Ok(Err(error))),
        };
        let taken = self.wait(call, timeout, move |caller| {
            let position = caller.receive(&wanted)?;
            position.map(|position| take(caller, position)).transpose()
        });
        response(taken, |message| match message {
            Some(message) => Response::new(0).message(&message),
            None if timeout == 0 => Response::code(Code::Empty),
            None => Response::code(Code::Timeout),
        })
    }

    /// A call whose receiver has ended returns NOPROC, with the DOWN.
    fn call_and_wait(
        &self,
        call: &'static HostCall,
        to: Pid,
        (tag, data): (u32, Vec<u8>),
        timeout: i64,
    ) -> Result<Response, String> {
        if timeout < receive::FOREVER {
            return Ok(Response::code(Code::BadArgument));
        }
        let begun = self.make(call, move |caller| {
            caller.call(to, tag, &data, timeout != 0)
        });
        let reference = match begun? {
            Ok(reference) => reference,
            Err(error) => return done(Ok(Err(error))),
        };
        let replied = self.wait(call, timeout, move |caller| {
            Ok(match caller.replied(reference)? {
                None => None,
                Some(Replied::At(at)) => Some((Code::Ok, take(caller, at)?)),
                Some(Replied::Down(at)) => Some((Code::NoProc, take(caller, at)?)),
            })
        })?;
        if let Ok(None) = replied {
            let given_up = self.make(call, move |caller| {
                caller.cancel_request(reference);
                Ok(())
            });
            given_up?.ok();
        }
        response(Ok(replied), |replied| match replied {
            Some((code, message)) => Response::code(code).message(&message),
            None => Response::code(Code::Timeout),
        })
    }

    fn timers(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        match call.name {
            "send_after" => {
                let (to, tag, data, delay) = (q.pid()?, q.word()?, q.bytes()?, q.number()?);
                let set =
                    move |caller: &mut HostCaller<'_>| caller.send_after(to, tag, &data, delay);
                reference(self.make(call, set))
            }
            "cancel_timer" => {
                let timer = q.reference()?;
                let left = self.make(call, move |caller| Ok(caller.cancel_timer(timer)));
                response(left, |left| left.map_or(Response::new(-1), number))
            }
            "sleep" => {
                let time = q.number()?;
                let waits = self.make(call, move |caller| Ok(caller.sleep(time)?));
                if let Ok(true) = waits? {
                    let time = u64::try_from(time).unwrap_or(0);
                    self.advance(Duration::from_millis(time))?;
                    return Ok(Response::code(Code::Ok));
                }
                done(self.make(call, move |caller| Ok(caller.sleep(time).map(drop)?)))
            }
            _ => Err(unserved(call)),
        }
    }

    fn spawn(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        let spawned = match call.name {
            "spawn" => {
                let (module, arguments) = (q.bytes()?, q.bytes()?);
                let (options, grants) = (q.bytes()?, q.bytes()?);
                self.make(call, move |caller| {
                    let (decoded, _) = SpawnOptions::decode(&options)?;
                    let options = SpawnOptions {
                        grants: &grants,
                        ..decoded
                    };
                    caller.spawn(&module, &arguments, &options)
                })
            }
            "supervisor_start" => {
                let specification = q.bytes()?;
                self.make(call, move |caller| caller.supervisor_start(&specification))
            }
            "init_ack" => {
                let (status, data) = (q.int()?, q.bytes()?);
                return done(self.make(call, move |caller| caller.init_ack(status, &data)));
            }
            _ => return Err(unserved(call)),
        };
        let Spawned {
            pid,
            monitor,
            waits,
        } = match spawned? {
            Ok(spawned) => spawned,
            Err(error) => return done(Ok(Err(error))),
        };
        if let Some((reference, timeout)) = waits {
            let started = self.wait(call, timeout, move |caller| {
                Ok(caller.started(reference)?.then_some(()))
            });
            match started? {
                Ok(Some(())) => {}
                Ok(None) => {
                    let cancel_request = move |caller: &mut HostCaller<'_>| {
                        caller.cancel_start(reference, pid);
                        Ok(())
                    };
                    self.make(call, cancel_request)?.ok();
                    return Ok(Response::code(Code::StartFailed));
                }
                Err(error) => return done(Ok(Err(error))),
            }
        }
        let reference = monitor.unwrap_or(0);
        Ok(Response::new(0).pid(pid).reference(reference))
    }

    fn relations(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        match call.name {
            "exit_process" => {
                let (to, code, data) = (q.pid()?, q.int()?, q.bytes()?);
                done(self.make(call, move |caller| caller.exit_process(to, code, &data)))
            }
            "kill" => {
                let to = q.pid()?;
                done(self.make(call, move |caller| caller.kill(to)))
            }
            "link" => {
                let to = q.pid()?;
                done(self.make(call, move |caller| caller.link(to)))
            }
            "unlink" => {
                let to = q.pid()?;
                done(self.make(call, move |caller| caller.unlink(to)))
            }
            "monitor" => {
                let to = q.pid()?;
                reference(self.make(call, move |caller| caller.monitor(to)))
            }
            "monitor_name" => {
                let name = q.bytes()?;
                let made = self.make(call, move |caller| caller.monitor_name(&name));
                response(made, |(pid, reference)| {
                    Response::new(0).pid(pid).reference(reference)
                })
            }
            "demonitor" => {
                let (monitor, flags) = (q.reference()?, q.int()?);
                done(self.make(call, move |caller| {
                    // What has arrived is dropped too.
                    caller.drain()?;
                    caller.demonitor(monitor, flags)
                }))
            }
            "trap_exit" => {
                let on = q.word()? != 0;
                let before = self.make(call, move |caller| Ok(caller.trap_exit(on)));
                response(before, number)
            }
            "set_priority" => {
                let priority = q.word()?;
                let before = self.make(call, move |caller| caller.set_priority(priority));
                response(before, |before| number(before as u32))
            }
            _ => Err(unserved(call)),
        }
    }

    fn names(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        let name = q.bytes()?;
        match call.name {
            "register" => {
                let pid = q.pid()?;
                done(self.make(call, move |caller| caller.register(&name, pid)))
            }
            "unregister" => done(self.make(call, move |caller| caller.unregister(&name))),
            "whereis" => {
                let found = self.make(call, move |caller| caller.whereis(&name));
                response(found, |pid| Response::new(0).pid(pid))
            }
            "group_join" => {
                let pid = q.pid()?;
                done(self.make(call, move |caller| caller.group_join(&name, pid)))
            }
            "group_leave" => {
                let pid = q.pid()?;
                done(self.make(call, move |caller| caller.group_leave(&name, pid)))
            }
            "group_members" => {
                let members = self.make(call, move |caller| caller.group_members(&name));
                response(members, |members| {
                    let count = number(members.len());
                    members.iter().fold(count, |members, pid| members.pid(*pid))
                })
            }
            "publish" => {
                let (tag, data) = (q.word()?, q.bytes()?);
                let reached = self.make(call, move |caller| {
                    let mut published = caller.publish(&name, tag, &data)?;
                    loop {
                        match published {
                            Published::Reached(members) => return Ok(members),
                            Published::Unfinished(rest) => published = caller.publish_on(rest),
                        }
                    }
                });
                response(reached, number)
            }
            _ => Err(unserved(call)),
        }
    }

    fn tables(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        match call.name {
            "table_new" => {
                let (name, access) = (q.bytes()?, q.int()?);
                return reference(self.make(call, move |caller| caller.table_new(&name, access)));
            }
            "table_find" => {
                let name = q.bytes()?;
                return reference(self.make(call, move |caller| caller.table_find(&name)));
            }
            _ => {}
        }
        let id = q.reference()?;
        match call.name {
            "table_put" => {
                let (key, value, flags) = (q.bytes()?, q.bytes()?, q.int()?);
                let put = self.make(call, move |caller| {
                    caller.table_put(id, &key, &value, flags)
                });
                response(put, number)
            }
            "table_get" => {
                let key = q.bytes()?;
                let got = self.make(call, move |caller| {
                    let found = caller.table_get(id, &key)?;
                    Ok(found.as_ref().map(Payload::as_slice).map(<[u8]>::to_vec))
                });
                found(got)
            }
            "table_next" => {
                let key = q.bytes()?;
                found(self.make(call, move |caller| caller.table_next(id, &key)))
            }
            "table_delete" => {
                let key = q.bytes()?;
                let was = self.make(call, move |caller| caller.table_delete(id, &key));
                response(was, number)
            }
            "table_add" => {
                let (key, amount) = (q.bytes()?, q.number()?);
                let sum = self.make(call, move |caller| caller.table_add(id, &key, amount));
                response(sum, |sum| Response::new(0).number(sum))
            }
            "table_info" => {
                let what = q.int()?;
                response(
                    self.make(call, move |caller| caller.table_info(id, what)),
                    number,
                )
            }
            "table_heir" => {
                let (heir, tag) = (q.pid()?, q.word()?);
                let heir = (heir != Pid::NONE).then_some((heir, tag));
                done(self.make(call, move |caller| caller.table_heir(id, heir)))
            }
            "table_give" => {
                let (to, tag) = (q.pid()?, q.word()?);
                done(self.make(call, move |caller| caller.table_give(id, to, tag)))
            }
            "table_end" => done(self.make(call, move |caller| caller.table_end(id))),
            _ => Err(unserved(call)),
        }
    }

    fn info(&self, call: &'static HostCall, q: &mut Request<'_>) -> Result<Response, String> {
        match call.name {
            "self" => Ok(Response::new(0).pid(self.probe.pid())),
            "clock" => {
                let now = read_clock(&self.node.system().clock, q.int()?);
                response(Ok(now.map_err(CallError::Code)), number)
            }
            "info" => {
                let what = q.int()?;
                response(self.make(call, move |caller| caller.info(what)), number)
            }
            "config" => {
                let key = q.bytes()?;
                found(self.make(call, move |caller| caller.config(&key).map(Some)))
            }
            _ => Err(unserved(call)),
        }
    }
}

/// Takes a message out of the mailbox.
fn take(caller: &mut HostCaller<'_>, position: usize) -> CallResult<Envelope> {
    let message = caller.process.peek(position).cloned().ok_or(Code::Empty)?;
    caller.take(position)?;
    Ok(message)
}

fn unserved(call: &HostCall) -> String {
    format!(
        "`{}` cannot be called by a test: call it from a process",
        call.name
    )
}
