//! A model of those who come to a version while it is replaced and unloaded,
//! under every interleaving that loom finds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p exuvia-code --target-dir target/loom
//! --test loom --release`

#![cfg(loom)]

use exuvia_code::{Code, Digest};
use loom::sync::Arc;
use loom::thread;

/// Code with a version of a module that is current.
fn code() -> Arc<Code<i32>> {
    let code = Arc::new(Code::new(3));
    commit(&code, 1);
    code
}

fn commit(code: &Code<i32>, number: u8) {
    let version = code.load("m", Digest([number; 32]), 0);
    code.commit(&code.current(), &[version.version().clone()], false)
        .unwrap();
}

/// Whoever is born while code is swapped lives in a version that is loaded: the
/// one that it saw, or a newer one.
#[test]
fn who_is_born_lives_in_a_version_that_is_loaded() {
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
        // The release waits for it, if it is not in the current version.
        let current = code.current();
        let behind = !born.is(current.version("m").unwrap());
        assert_eq!(code.pending(&current), usize::from(behind));
        drop(born);
        code.unload(0, |schema| *schema);
        assert_eq!(code.loaded().len(), 1);
    });
}

/// The same of whoever crosses, or goes back: it holds what it goes to.
#[test]
fn what_is_held_is_not_unloaded() {
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
