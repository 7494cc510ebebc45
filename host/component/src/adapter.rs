//! The adapter: the files of the folder `adapter`, which are one module, assembled.

use std::sync::OnceLock;

/// The module name of what a component brings.
pub(crate) const COMPONENT: &str = "component";
/// The exports of the adapter that become those of the module.
pub(crate) const EXPORTS: [&str; 7] = [
    "exuvia_abi",
    "exuvia_schema",
    "exuvia_shared_start",
    "warm_up",
    "run",
    "save",
    "load",
];
/// The export that is called when a handle is dropped.
pub(crate) const DROP: &str = "drop";
/// The global that says which `realloc` is current.
pub(crate) const CURRENT: &str = "current";

const TEXT: &str = concat!(
    "(module\n",
    include_str!("adapter/imports.wat"),
    include_str!("adapter/world.wat"),
    include_str!("adapter/host.wat"),
    include_str!("adapter/wasi.wat"),
    include_str!("adapter/files.wat"),
    ")",
);

/// The bytes of the adapter.
pub(crate) fn bytes() -> &'static [u8] {
    static ADAPTER: OnceLock<Vec<u8>> = OnceLock::new();
    ADAPTER.get_or_init(|| wat::parse_str(TEXT).expect("the adapter is a module of this crate"))
}

/// The name under which the adapter exports a function of an interface: without the version, as all versions of one major
/// number (of 0, minor number) have the functions of the first.
pub(crate) fn export(interface: &str, function: &str) -> String {
    let interface = interface.split('@').next().unwrap_or_default();
    format!("{interface}#{function}")
}
