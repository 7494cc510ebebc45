//! Sizes that decide how much memory an idle process takes.

use exuvia_process::{Envelope, Own, Signal, Slot};

#[test]
fn records_stay_small() {
    // `cargo test sizes -- --nocapture` shows them.
    eprintln!(
        "Slot {}, Own {}, Envelope {}, Signal {}",
        size_of::<Slot<()>>(),
        size_of::<Own<u64>>(),
        size_of::<Envelope>(),
        size_of::<Signal<()>>(),
    );
    // A line of the cache.
    assert!(size_of::<Slot<()>>() <= 64);
    // With a word of the engine's.
    assert!(size_of::<Own<u64>>() <= 88);
    assert!(size_of::<Envelope>() <= 64);
    assert!(size_of::<Signal<()>>() <= 64);
}
