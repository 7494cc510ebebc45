//! Files that are something else, and stores that others have open.

use std::collections::HashSet;

use super::{digest, module, record};
use crate::file::{META, at};
use crate::{MAX_PINS, Origin, ReleaseRecord, Retention, Store, StoreError};

fn commit(store: &Store, record: &ReleaseRecord, bytes: &[u8]) {
    let _staged = store.stage(&[(digest(bytes), bytes)]).unwrap();
    let done = store.commit(std::slice::from_ref(record), &HashSet::new());
    done.unwrap();
}

fn text(result: Result<Store, StoreError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    let why = text(Store::open(&path, "app", Retention::default()));
    assert!(why.ends_with("is in use by another node"), "{why}");
    // Closed, it is free, whoever holds it.
    store.close();
    let why = store.head().unwrap_err().to_string();
    assert!(why.ends_with("the node has stopped"), "{why}");
    Store::open(&path, "app", Retention::default()).unwrap();
}

/// It is made beside its place.
#[test]
fn a_store_that_was_cut_off_while_it_was_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let beside = format!("store.{}.new", std::process::id());
    std::fs::write(folder.path().join(beside), b"redb").unwrap();
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    assert_eq!(store.head().unwrap(), None);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn other_files_are_refused_and_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for bytes in [b"a text".to_vec(), vec![7; 100_000]] {
        std::fs::write(&path, &bytes).unwrap();
        let why = text(Store::open(&path, "app", Retention::default()));
        assert!(why.ends_with("is not a release store"), "{why}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    std::fs::remove_file(&path).unwrap();

    // A database of something else.
    let other = redb::TableDefinition::<u64, u64>::new("other");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let why = text(Store::open(&path, "app", Retention::default()));
    assert!(why.ends_with("is not a release store"), "{why}");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let why = text(Store::open(&path, "app", Retention::default()));
    assert!(why.contains("cannot be opened: "), "{why}");
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path, "app", Retention::default()).unwrap());
    let database = at(&path)().unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("format", 2).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    drop(database);
    let why = text(Store::open(&path, "app", Retention::default()));
    let wanted = "has format 2, and this Exuvia knows format 1";
    assert!(why.ends_with(wanted), "{why}");
}

#[test]
fn a_module_whose_bytes_have_changed_on_the_disk_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    let bytes = module(3);
    let first = record(1, Origin::Files, &[("one", 3)]);
    commit(&store, &first, &bytes);
    drop(store);
    // One bit within a module.
    let mut file = std::fs::read(&path).unwrap();
    let within = file.windows(500).position(|part| part == [3; 500]);
    file[within.unwrap() + 200] ^= 1;
    std::fs::write(&path, file).unwrap();
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    let why = store.module(digest(&bytes)).unwrap_err().to_string();
    assert!(why.contains("is damaged: "), "{why}");
    // The next release that has it brings it again.
    let next = record(2, Origin::Deploy, &[("one", 3), ("two", 3)]);
    commit(&store, &next, &bytes);
    assert_eq!(store.module(digest(&bytes)).unwrap(), bytes);
}

#[test]
fn pins_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), "app", Retention::default()).unwrap();
    let bytes = module(1);
    for number in 1..=MAX_PINS as u64 + 1 {
        let release = record(number, Origin::Files, &[("one", 1)]);
        commit(&store, &release, &bytes);
        let done = store.pin(number, true);
        match number <= MAX_PINS as u64 {
            true => assert!(done.unwrap()),
            false => assert!(matches!(done, Err(StoreError::TooManyPins(MAX_PINS)))),
        }
    }
    assert_eq!(store.releases().unwrap().len(), MAX_PINS + 1);
}

#[test]
fn a_store_is_that_of_one_app() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path, "shop", Retention::default()).unwrap());
    let why = text(Store::open(&path, "bank", Retention::default()));
    assert!(why.ends_with("is that of the app `shop`"), "{why}");
    Store::open(&path, "shop", Retention::default()).unwrap();
}

/// Whatever a file has become, opening and reading it is an error at most.
#[test]
fn a_file_that_was_changed_anywhere_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    let bytes = module(1);
    for number in 1..=5 {
        commit(
            &store,
            &record(number, Origin::Files, &[("one", 1)]),
            &bytes,
        );
    }
    drop(store);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(good.len() / 200) {
        let mut bad = good.clone();
        let end = (at + 64).min(bad.len());
        bad[at..end].fill(0xa5);
        std::fs::write(&path, &bad).unwrap();
        if let Ok(store) = Store::open(&path, "app", Retention::default()) {
            let _ = store.releases();
            let _ = store.release_with_modules(5);
            let _ = store.commit(&[record(6, Origin::Files, &[("one", 1)])], &HashSet::new());
        }
    }
    // Cut off anywhere.
    for length in (0..good.len()).step_by(good.len() / 50) {
        std::fs::write(&path, &good[..length]).unwrap();
        if let Ok(store) = Store::open(&path, "app", Retention::default()) {
            let _ = store.head();
        }
    }
}

/// What a node can still roll back to is kept, however many releases have come since.
#[test]
fn roots_and_what_is_staged_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let kept = Retention {
        releases: 1,
        bytes: 0,
    };
    let store = Store::open(&path, "app", kept).unwrap();
    let (root, other, staged) = (module(1), module(2), module(3));
    commit(&store, &record(1, Origin::Files, &[("one", 1)]), &root);
    let _staged = store.stage(&[(digest(&staged), &staged)]).unwrap();
    let roots = HashSet::from([digest(&root)]);
    let _other = store.stage(&[(digest(&other), &other)]).unwrap();
    for number in 2..30 {
        let next = record(number, Origin::Deploy, &[("one", 2)]);
        store.commit(&[next], &roots).unwrap();
    }
    assert_eq!(store.releases().unwrap().len(), crate::MIN_RELEASES);
    for bytes in [&root, &staged] {
        assert_eq!(store.module(digest(bytes)).unwrap(), *bytes);
    }
    let missing = record(30, Origin::Deploy, &[("one", 7)]);
    assert!(matches!(
        store.commit(&[missing], &roots),
        Err(StoreError::NoModule(_))
    ));
    assert_eq!(store.head().unwrap().unwrap().number, 29);
}

/// What is written to a file that nobody can find is lost: so nothing is.
#[test]
fn a_file_that_was_removed_while_it_is_open_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, "app", Retention::default()).unwrap();
    let bytes = module(1);
    commit(&store, &record(1, Origin::Files, &[("one", 1)]), &bytes);
    let away = folder.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    let next = record(2, Origin::Deploy, &[("one", 1)]);
    let why = store.commit(std::slice::from_ref(&next), &HashSet::new());
    let why = why.unwrap_err().to_string();
    assert!(why.contains("was removed or replaced"), "{why}");
    std::fs::rename(&away, &path).unwrap();
    store.commit(&[next], &HashSet::new()).unwrap();
    assert_eq!(store.head().unwrap().unwrap().number, 2);
}
