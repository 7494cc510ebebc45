//! Sizes that determine how much memory an idle process takes.

use exuvia_process::{Envelope, Item, MaybeCharged, Process, Signal, Slot};

#[test]
fn records_stay_small() {
    // `cargo test sizes -- --nocapture` shows them.
    eprintln!(
        "Slot {}, Process {}, Envelope {}, Signal {}, Item {}",
        size_of::<Slot<()>>(),
        size_of::<Process<u64>>(),
        size_of::<Envelope>(),
        size_of::<Signal>(),
        size_of::<Item<()>>(),
    );
    // One cache line.
    assert!(size_of::<Slot<()>>() <= 64);
    // Including one word of the engine's.
    assert!(size_of::<Process<u64>>() <= 88);
    assert!(size_of::<Envelope>() <= 64);
    assert!(size_of::<Signal>() <= 64);
    // A charge, or a function of the host, makes no item larger.
    assert!(size_of::<Item<()>>() <= 64);
    assert!(size_of::<MaybeCharged<Envelope>>() <= 64);
}
