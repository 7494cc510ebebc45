//! How the memories of the tests' processes lie. The tests of other crates use this file too.

/// `EXUVIA_TEST_LAYOUT=wide` asks for wide memories in all tests but those that are about a layout.
pub(crate) fn is_wide() -> bool {
    let asked = std::env::var("EXUVIA_TEST_LAYOUT");
    match asked.as_deref().unwrap_or_default() {
        "" | "packed" => false,
        "wide" => true,
        other => panic!("EXUVIA_TEST_LAYOUT is `packed` or `wide`, not `{other}`"),
    }
}
