//! What a module exports, as macros. The attributes are `unsafe` since two modules that
//! are linked together must not export one name twice; a module is linked once.

/// Exports a module written as functions. Write it once, at the top level.
///
/// - `run = path`: `fn() -> RunResult`, called whenever there is something to do.
/// - `schema = number, save = path, load = path`: `fn() -> bool` and
///   `fn(from_schema: i32, length: usize) -> bool`, with [`state::put`] and
///   [`state::get`] inside them; `false` refuses. Optional.
/// - `warm_up = path`: `fn()`, called once a version before the base is taken.
///   It may log and nothing else. Optional.
/// - `layout = Type`: see [`Layout`]. Optional.
///
/// ```
/// use exuvia::{Buffer, Match, RunResult, Wait};
///
/// fn run() -> RunResult {
///     let mut buffer = Buffer::new();
///     while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
///         message.sender.send_bytes(message.tag, &message.payload).ok();
///     }
///     RunResult::Rest
/// }
///
/// exuvia::module!(run = run);
/// ```
///
/// [`state::put`]: crate::state::put
/// [`state::get`]: crate::state::get()
/// [`Layout`]: crate::Layout
#[macro_export]
macro_rules! module {
    (
        run = $run:path
        $(, schema = $schema:expr, save = $save:path, load = $load:path)?
        $(, warm_up = $warm_up:path)?
        $(, layout = $layout:ty)?
        $(,)?
    ) => {
        // Never called: off Wasm it keeps the functions from being unused.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            const _: fn() -> $crate::RunResult = $run;
            $(
                const _: i32 = $schema;
                const _: fn() -> bool = $save;
                const _: fn(i32, usize) -> bool = $load;
            )?
            $(const _: fn() = $warm_up;)?
            $(const _: u64 = <$layout as $crate::Layout>::HASH;)?
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(export_name = "exuvia_abi")]
            extern "C" fn __exuvia_abi() -> i32 {
                $crate::ABI_VERSION
            }
            #[unsafe(export_name = "run")]
            extern "C" fn __exuvia_run() -> i32 {
                $run() as i32
            }
            #[unsafe(export_name = "warm_up")]
            extern "C" fn __exuvia_warm_up() {
                $crate::runtime::install_panic_hook();
                $($warm_up();)?
            }
            $(
                #[unsafe(export_name = "exuvia_schema")]
                extern "C" fn __exuvia_schema() -> i32 {
                    $schema
                }
                #[unsafe(export_name = "save")]
                extern "C" fn __exuvia_save() -> i32 {
                    if $save() { 0 } else { 1 }
                }
                #[unsafe(export_name = "load")]
                extern "C" fn __exuvia_load(from_schema: i32, length: u32) -> i32 {
                    if $load(from_schema, length as usize) { 0 } else { 1 }
                }
            )?
            $(
                #[used]
                #[unsafe(link_section = "exuvia.layout")]
                static __EXUVIA_LAYOUT: [u8; $crate::layout::SECTION_SIZE] =
                    $crate::layout::section::<$layout>();
            )?
        };
    };
}

/// Has the module say what its actor understands, in the section `exuvia.protocol`;
/// `#[exuvia::actor(protocol = ..)]` writes it.
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ($($messages:ty),*) => {
        $(
            #[cfg(target_arch = "wasm32")]
            const _: () = {
                const TEXT: &str = <$messages>::DESCRIPTION;
                #[used]
                #[unsafe(link_section = "exuvia.protocol")]
                static DESCRIPTION: [u8; TEXT.len()] = $crate::layout::bytes(TEXT);
            };
        )*
    };
}

/// Exports an actor; `#[exuvia::actor]` writes it.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor {
    ($actor:ty, $schema:expr $(, $layout:ident)?) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            static STATE: $crate::sys::StateCell<$actor> =
                $crate::sys::StateCell(::std::cell::RefCell::new($crate::__Slot::new()));
            // The state's address stands in the data segments, so that two
            // versions with equal data keep it in the same place. What is zero
            // at the start is in no segment: its moving would not show else.
            #[cfg(target_arch = "wasm32")]
            #[used]
            static STATE_IS_AT: &$crate::sys::StateCell<$actor> = &STATE;

            #[cfg(target_arch = "wasm32")]
            fn run() -> $crate::RunResult {
                $crate::runtime::run(&STATE.0)
            }
            #[cfg(target_arch = "wasm32")]
            fn save() -> bool {
                $crate::runtime::save(&STATE.0)
            }
            #[cfg(target_arch = "wasm32")]
            fn load(from_schema: i32, length: usize) -> bool {
                $crate::runtime::load(&STATE.0, from_schema, length)
            }

            // Off Wasm an actor has no process of its own: `testing` makes one.
            #[cfg(not(target_arch = "wasm32"))]
            fn run() -> $crate::RunResult {
                $crate::RunResult::Rest
            }
            #[cfg(not(target_arch = "wasm32"))]
            fn save() -> bool {
                false
            }
            #[cfg(not(target_arch = "wasm32"))]
            fn load(_: i32, _: usize) -> bool {
                false
            }

            fn warm_up() {
                $crate::runtime::warm_up::<$actor>();
            }

            $crate::module!(
                run = run,
                schema = $schema,
                save = save,
                load = load,
                warm_up = warm_up
                $(, layout = $crate::__actor!(@$layout $actor))?
            );
        };
    };
    (@layout $actor:ty) => { $actor };
}
