//! Tables.

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is a host call: what is passed lives as long as the function, and its length is its own"
)]
#[rustpython_vm::pymodule(sub, name = "_exuvia")]
pub(super) mod native {
    use rustpython_vm::builtins::{PyBytesRef, PyStrRef};
    use rustpython_vm::function::OptionalArg;

    use crate::host;
    use crate::module::{Pid, fetched, pid_of};

    #[pyfunction]
    fn table_new(name: PyStrRef, access: i32) -> (i32, i64) {
        let mut table = 0;
        let code = unsafe {
            host::table_new(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                access,
                &mut table,
            )
        };
        (code, table)
    }
    #[pyfunction]
    fn table_find(name: PyStrRef) -> (i32, i64) {
        let mut table = 0;
        let code = unsafe {
            host::table_find(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                &mut table,
            )
        };
        (code, table)
    }
    #[pyfunction]
    fn table_put(table: i64, key: PyBytesRef, value: PyBytesRef, flags: i32) -> i32 {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        unsafe {
            host::table_put(
                table,
                key.as_ptr(),
                key.len() as u32,
                value.as_ptr(),
                value.len() as u32,
                flags,
            )
        }
    }
    #[pyfunction]
    fn table_get(table: i64, key: PyBytesRef) -> (i32, Vec<u8>) {
        let key = key.as_bytes();
        fetched(|buffer, capacity| unsafe {
            host::table_get(table, key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }
    #[pyfunction]
    fn table_next(table: i64, key: PyBytesRef) -> (i32, Vec<u8>) {
        let key = key.as_bytes();
        fetched(|buffer, capacity| unsafe {
            host::table_next(table, key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }
    #[pyfunction]
    fn table_delete(table: i64, key: PyBytesRef) -> i32 {
        unsafe { host::table_delete(table, key.as_bytes().as_ptr(), key.as_bytes().len() as u32) }
    }
    #[pyfunction]
    fn table_add(table: i64, key: PyBytesRef, amount: i64) -> (i32, i64) {
        let mut sum = 0;
        let code = unsafe {
            host::table_add(
                table,
                key.as_bytes().as_ptr(),
                key.as_bytes().len() as u32,
                amount,
                &mut sum,
            )
        };
        (code, sum)
    }
    #[pyfunction]
    fn table_info(table: i64, what: i32) -> i64 {
        unsafe { host::table_info(table, what) }
    }
    /// table_heir(table, pid, tag): without a pid there is no heir.
    #[pyfunction]
    fn table_heir(table: i64, pid: OptionalArg<Option<Pid>>, tag: u32) -> i32 {
        let pid = pid.flatten().map(|pid| pid_of(&pid));
        unsafe {
            host::table_heir(
                table,
                pid.as_ref().map_or(std::ptr::null(), |pid| pid.as_ptr()),
                tag,
            )
        }
    }
    #[pyfunction]
    fn table_give(table: i64, pid: Pid, tag: u32) -> i32 {
        unsafe { host::table_give(table, pid_of(&pid).as_ptr(), tag) }
    }
    #[pyfunction]
    fn table_end(table: i64) -> i32 {
        unsafe { host::table_end(table) }
    }
}
