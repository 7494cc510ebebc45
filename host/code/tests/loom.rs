//! A model of processes that enter a version while it is replaced and unloaded, under
//! every interleaving that loom finds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p exuvia-code --target-dir target/loom
//! --test loom --release`

#![cfg(loom)]

use exuvia_code::{CodeServer, Digest};
use loom::sync::Arc;
use loom::thread;

/// Returns code with a current version of one module.
fn code() -> Arc<CodeServer<i32>> {
    let code = Arc::new(CodeServer::new(3));
    commit(&code, 1);
    code
}

fn commit(code: &CodeServer<i32>, number: u8) {
    let version = code.load("m", Digest([number; 32]), 0);
    code.commit(&code.current(), &[version.version().clone()], false)
        .unwrap();
}

/// A process that is spawned during a swap runs a loaded version: the one that it saw,
/// or a newer one.
#[test]
fn a_new_process_is_in_a_loaded_version() {
    loom::model(|| {
        let code = code();
        let born = {
            let code = code.clone();
            thread::spawn(move || code.enter("m").unwrap().1)
        };
        commit(&code, 2);
        code.unload(0, |schema| *schema);
        let born = born.join().unwrap();
        let loaded = code.loaded();
        assert!(loaded.iter().any(|version| born.is(version)));
        // The process is pending if it does not run the current version.
        let current = code.current();
        let behind = !born.is(current.version("m").unwrap());
        assert_eq!(code.pending(&current), usize::from(behind));
        drop(born);
        code.unload(0, |schema| *schema);
        assert_eq!(code.loaded().len(), 1);
    });
}

/// The same holds for a process that is upgraded or reverted: it keeps the version that
/// it changes to loaded.
#[test]
fn a_referenced_version_is_not_unloaded() {
    loom::model(|| {
        let code = code();
        let crossing = {
            let code = code.clone();
            thread::spawn(move || {
                let (_, held) = code.hold("m").unwrap();
                let lives = held.enter();
                drop(held);
                lives
            })
        };
        commit(&code, 2);
        code.unload(0, |schema| *schema);
        let lives = crossing.join().unwrap();
        assert!(code.loaded().iter().any(|version| lives.is(version)));
    });
}
