//! What a path must be like to be the address of a unix socket.

use std::path::Path;

use crate::error::PathTooLong;

/// The maximum length of a socket's path: Linux has 108 bytes for it, including the terminating
/// NUL.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Checks that a path fits into a socket address.
pub fn check_path(path: &Path) -> Result<(), PathTooLong> {
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(PathTooLong {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}
