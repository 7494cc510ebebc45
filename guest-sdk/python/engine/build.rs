//! Copies the modules of the standard library that `modules.txt` names, to be frozen into the engine, and tells the
//! linker what the host wants to see.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The stack in memory, bytes. The interpreter raises RecursionError when 32 KiB are left: before that of the host, which a
/// module does not see, is exhausted. With twice as much it is not.
const STACK: u32 = 256 * 1024;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=modules.txt");
    // The stack comes first, as rustc has it, and its pointer is exported: so the host knows what of it is dead.
    for argument in [
        "--export=__stack_pointer".to_owned(),
        format!("-zstack-size={STACK}"),
    ] {
        println!("cargo:rustc-link-arg-cdylib={argument}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let to = out.join("Lib");
    let _ = fs::remove_dir_all(&to);
    let library = Path::new(rustpython_pylib::LIB_PATH);
    let list = fs::read_to_string("modules.txt").expect("modules.txt is beside build.rs");
    for name in list.split_whitespace() {
        let path = name.replace('.', "/");
        let file = [format!("{path}.py"), format!("{path}/__init__.py")]
            .into_iter()
            .find(|file| library.join(file).is_file())
            .unwrap_or_else(|| {
                panic!(
                    "modules.txt: there is no module {name} in {}",
                    library.display()
                )
            });
        let copy = to.join(&file);
        fs::create_dir_all(copy.parent().expect("it is in a folder"))
            .expect("cannot make a folder in OUT_DIR");
        fs::copy(library.join(&file), copy)
            .unwrap_or_else(|error| panic!("cannot copy {file}: {error}"));
    }
    // The folder is sought beside the file that names it.
    let text = "rustpython_vm::py_freeze!(dir = \"Lib\", crate_name = \"rustpython_vm\")\n";
    fs::write(out.join("frozen.rs"), text).expect("cannot write into OUT_DIR");
}
