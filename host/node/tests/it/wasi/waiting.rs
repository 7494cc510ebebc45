//! Functions that wait: for a time, and for files.

use std::time::Duration;

use tempfile::TempDir;

use super::{READ, folder, granted, open, open_files, read, sleep, world};
use crate::guests::{deploy, eventually, node_with};
use crate::puppet::{self, Puppet};

#[test]
fn a_sleep_in_wasi_delays_no_other_process() {
    let node = world(1, &[]);
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    // 300 ms, and an hour.
    let long = sleep(&b, 3_600_000_000_000);
    let short = sleep(&a, 300_000_000);
    eventually("both wait", || a.state() == "wasi" && b.state() == "wasi");
    Puppet::new(&node).act("version", &[], b"");
    // It can be looked at meanwhile, and messages that come stay.
    node.send(a.pid, 7, b"later".to_vec()).unwrap();
    node.inspect(b.pid).unwrap();
    assert_eq!(short.join().unwrap().unwrap().ok().reference as u32, 1);
    assert_eq!(a.wait().tag, 7);
    assert_eq!(b.state(), "wasi");
    node.kill(b.pid);
    assert!(long.join().unwrap().is_err());
    node.halt();
}

/// Many at once, more than there are frames: all are served.
#[test]
fn many_processes_read_at_once() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    let node = node_with(|config| {
        config.frames = 8;
        config.limits = granted(vec![folder("/", dir.path(), false)]);
    });
    deploy(&node, "puppet", &puppet::with_wasi(1));
    let puppets: Vec<Puppet> = (0..40).map(|_| Puppet::new(&node)).collect();
    std::thread::scope(|scope| {
        for p in &puppets {
            scope.spawn(move || {
                for _ in 0..5 {
                    let file = open(p, "a", 0, READ);
                    assert_eq!(read(p, file, 9), "text");
                    p.act("fd_close", &[file], b"").ok();
                }
            });
        }
    });
    let halted = std::time::Instant::now();
    node.halt();
    assert!(halted.elapsed() < Duration::from_secs(20));
    drop(puppets);
    eventually("all is closed", || open_files(dir.path()) == 0);
}
