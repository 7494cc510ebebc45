//! Explains an import that the host does not have, and what to do about it. Most such imports exist
//! because a crate from the registry was built for a browser.

/// Returns the text that follows "which does not exist here" for an import from another module than
/// the host's own.
pub(crate) fn why(module: &str, name: &str) -> String {
    if module.starts_with("__wbindgen") || module == "wbg" || name.starts_with("__wb") {
        return format!(
            "it belongs to wasm-bindgen: {} expects a browser; build for `wasm32-wasip1`, where such crates use WASI instead; `cargo tree -i wasm-bindgen --target wasm32-unknown-unknown` shows which crate needs it",
            who(name)
        );
    }
    if name.contains("getrandom") {
        return "the crate getrandom (of rand or uuid) has no source of random numbers for this target: build for `wasm32-wasip1`, where it uses WASI"
            .into();
    }
    if module.starts_with("wasi:") || module.starts_with("wasi_") {
        return "it belongs to another WASI than preview 1: build for `wasm32-wasip1`, without the component step".into();
    }
    if name.starts_with("emscripten_") || name.starts_with("invoke_") {
        return "it is Emscripten's, which expects a browser: build with a WASI SDK".into();
    }
    if module == "env" {
        return "it is left undefined by the linker: define the function, or link its library"
            .into();
    }
    format!("only host calls of the module `{}` do", exuvia_abi::MODULE)
}

/// Returns which crate probably wants a function of a browser.
fn who(name: &str) -> &'static str {
    let any = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if any(&["getRandomValues", "randomFillSync", "rypto_"]) {
        "the crate getrandom (of rand or uuid)"
    } else if any(&["_now_", "getTime", "Date", "_new0_", "performance"]) {
        "a crate that asks for the time (chrono, instant, web-time)"
    } else {
        "a crate of yours (with a feature like `js` or `wasmbind`)"
    }
}

#[cfg(test)]
mod tests {
    use super::why;

    #[test]
    fn modules_for_a_browser_are_recognized_with_the_target_to_build_for() {
        for (module, name, crates) in [
            (
                "__wbindgen_placeholder__",
                "__wbg_now_807e54c39636c349",
                "chrono",
            ),
            (
                "__wbindgen_placeholder__",
                "__wbg_getRandomValues_b8f5dbd5f3995a9e",
                "getrandom",
            ),
            (
                "__wbindgen_placeholder__",
                "__wbindgen_describe",
                "wasmbind",
            ),
            (
                "__wbindgen_externref_xform__",
                "__wbindgen_externref_table_grow",
                "wasmbind",
            ),
            ("wbg", "__wbg_new0_f788a2397c7ca929", "chrono"),
            ("env", "__getrandom_v03_custom", "getrandom"),
            (
                "wasi:io/streams@0.2.0",
                "[method]output-stream.write",
                "preview 1",
            ),
            ("wasi_unstable", "fd_write", "preview 1"),
        ] {
            let why = why(module, name);
            assert!(
                why.contains(crates) && why.contains("wasm32-wasip1"),
                "{why}"
            );
        }
        assert!(why("env", "sqrt").contains("undefined by the linker"));
        assert!(why("env", "invoke_vi").contains("Emscripten"));
        assert!(why("other", "x").contains("only host calls"));
    }
}
