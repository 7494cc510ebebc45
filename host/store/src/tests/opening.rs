//! Files that are something else, and stores that others have open.

use super::{digest, module, record};
use crate::file::{META, at};
use crate::{MAX_PINS, Origin, Retention, Store, StoreError};

fn text(result: Result<Store, StoreError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, Retention::default()).unwrap();
    let why = text(Store::open(&path, Retention::default()));
    assert!(why.ends_with("is in use by another node"), "{why}");
    drop(store);
    Store::open(&path, Retention::default()).unwrap();
}

/// It is made beside its place.
#[test]
fn a_store_that_was_cut_off_while_it_was_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let beside = format!("store.{}.new", std::process::id());
    std::fs::write(folder.path().join(beside), b"redb").unwrap();
    let store = Store::open(&path, Retention::default()).unwrap();
    assert_eq!(store.head().unwrap(), None);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn other_files_are_refused_and_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for bytes in [b"a text".to_vec(), vec![7; 100_000]] {
        std::fs::write(&path, &bytes).unwrap();
        let why = text(Store::open(&path, Retention::default()));
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
    let why = text(Store::open(&path, Retention::default()));
    assert!(why.ends_with("is not a release store"), "{why}");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let why = text(Store::open(&path, Retention::default()));
    assert!(why.contains("cannot be opened: "), "{why}");
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path, Retention::default()).unwrap());
    let database = at(&path)().unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("format", 2).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    drop(database);
    let why = text(Store::open(&path, Retention::default()));
    let wanted = "has format 2, and this Exuvia knows format 1";
    assert!(why.ends_with(wanted), "{why}");
}

#[test]
fn a_module_whose_bytes_have_changed_on_the_disk_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path, Retention::default()).unwrap();
    let bytes = module(3);
    let first = record(1, Origin::Files, &[("one", 3)]);
    store.commit(&first, &[(digest(&bytes), &bytes)]).unwrap();
    drop(store);
    // One bit within a module.
    let mut file = std::fs::read(&path).unwrap();
    let within = file.windows(500).position(|part| part == [3; 500]);
    file[within.unwrap() + 200] ^= 1;
    std::fs::write(&path, file).unwrap();
    let store = Store::open(&path, Retention::default()).unwrap();
    let why = store.module(digest(&bytes)).unwrap_err().to_string();
    assert!(why.contains("is damaged: "), "{why}");
    // The next release that has it brings it again.
    let next = record(2, Origin::Deploy, &[("one", 3), ("two", 3)]);
    store.commit(&next, &[(digest(&bytes), &bytes)]).unwrap();
    assert_eq!(store.module(digest(&bytes)).unwrap(), bytes);
}

#[test]
fn pins_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), Retention::default()).unwrap();
    let bytes = module(1);
    for number in 1..=MAX_PINS as u64 + 1 {
        let release = record(number, Origin::Files, &[("one", 1)]);
        store.commit(&release, &[(digest(&bytes), &bytes)]).unwrap();
        let done = store.pin(number, true);
        match number <= MAX_PINS as u64 {
            true => assert!(done.unwrap()),
            false => assert!(matches!(done, Err(StoreError::TooManyPins(MAX_PINS)))),
        }
    }
    assert_eq!(store.releases().unwrap().len(), MAX_PINS + 1);
}
