//! How the memories of the tests' processes lie. The node's tests use this file too.

use exuvia_engine::MemoryLayout;

/// `EXUVIA_TEST_LAYOUT=wide` asks for wide memories in all tests but those that are about a layout.
pub(crate) fn layout() -> MemoryLayout {
    let asked = std::env::var("EXUVIA_TEST_LAYOUT");
    match asked.as_deref().unwrap_or_default() {
        "" | "packed" => MemoryLayout::Packed,
        "wide" => MemoryLayout::Wide,
        other => panic!("EXUVIA_TEST_LAYOUT is `packed` or `wide`, not `{other}`"),
    }
}
