//! What the build tool has put behind the engine: the script, the modules that it imports, and the SDK.

/// Where it is and how long it is: the build tool writes both words, which it finds by the export of this name.
#[unsafe(no_mangle)]
pub static exuvia_scripts: Place = Place([0; 2]);

#[repr(transparent)]
#[allow(non_camel_case_types, reason = "a name for the export")]
pub struct Place([u32; 2]);

fn bytes() -> &'static [u8] {
    let place: *const [u32; 2] = (&raw const exuvia_scripts).cast();
    // SAFETY: the static is valid. Volatile, since the compiler knows it as zeroes.
    let [at, length] = unsafe { place.read_volatile() };
    if length == 0 {
        return &[];
    }
    // SAFETY: the build tool has put so many bytes there, where nothing else is.
    unsafe { std::slice::from_raw_parts(at as *const u8, length as usize) }
}

/// A number for the hashes of strings that who sends messages cannot know: it is made of all scripts.
pub fn hash_seed() -> u32 {
    bytes().iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Each module: its name, whether it is a package, its file and its text. The first is the script.
pub fn scripts() -> impl Iterator<Item = (&'static str, bool, &'static str, &'static str)> {
    let mut rest = bytes();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let name = take(&mut rest);
        let is_package = take(&mut rest) == "package";
        Some((name, is_package, take(&mut rest), take(&mut rest)))
    })
}

/// Takes a text: its length in four bytes, then its bytes.
fn take(rest: &mut &'static [u8]) -> &'static str {
    let (length, text) = rest
        .split_first_chunk::<4>()
        .expect("the build tool writes a length");
    let (text, after) = text.split_at(u32::from_le_bytes(*length) as usize);
    *rest = after;
    std::str::from_utf8(text).expect("the build tool writes UTF-8")
}
