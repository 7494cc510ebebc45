//! MessagePack, as `guest-sdk/compilers.md` says: from Python's values and to them.
//!
//! What is decoded may have been sent by anybody: an error is a ValueError, no length is believed before its bytes are
//! there, and the depth is bounded.

use rustpython_vm::builtins::{
    PyBaseExceptionRef, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList,
    PyMemoryView, PySet, PyStr, PyTuple,
};
use rustpython_vm::function::ArgBytesLike;
use rustpython_vm::{
    AsObject, Py, PyObject, PyObjectRef, PyResult, TryFromBorrowedObject, VirtualMachine,
};

/// How deep lists and maps may be nested.
const DEPTH: usize = 100;
/// Longer reservations wait for the bytes to be there.
const MOST_RESERVED: usize = 1024;

/// Appends a value.
pub fn encode(value: &PyObject, out: &mut Vec<u8>, vm: &VirtualMachine) -> PyResult<()> {
    encode_at(value, out, 0, vm)
}

/// Appends what may be long: there may be no memory for it.
fn put(out: &mut Vec<u8>, bytes: &[u8], vm: &VirtualMachine) -> PyResult<()> {
    let is_there =
        out.try_reserve(bytes.len()).is_ok() || out.try_reserve_exact(bytes.len()).is_ok();
    if !is_there {
        return Err(vm.new_memory_error("the process has no memory for this message"));
    }
    out.extend_from_slice(bytes);
    Ok(())
}

fn encode_at(
    value: &PyObject,
    out: &mut Vec<u8>,
    depth: usize,
    vm: &VirtualMachine,
) -> PyResult<()> {
    if depth > DEPTH {
        return Err(vm.new_value_error(format!("nested deeper than {DEPTH}")));
    }
    if vm.is_none(value) {
        out.push(0xc0);
    } else if value.is(&vm.ctx.true_value) {
        out.push(0xc3);
    } else if value.is(&vm.ctx.false_value) {
        out.push(0xc2);
    } else if let Some(text) = value.downcast_ref::<PyStr>() {
        let Some(text) = text.to_str() else {
            return Err(vm.new_value_error("a str with a lone surrogate is no UTF-8"));
        };
        front(out, text.len(), &TEXT);
        put(out, text.as_bytes(), vm)?;
    } else if let Some(number) = value.downcast_ref::<PyInt>() {
        encode_int(number, out, vm)?;
    } else if let Some(number) = value.downcast_ref::<PyFloat>() {
        out.push(0xcb);
        out.extend_from_slice(&number.to_f64().to_be_bytes());
    } else if let Some(bytes) = value.downcast_ref::<PyBytes>() {
        front(out, bytes.as_bytes().len(), &BINARY);
        put(out, bytes.as_bytes(), vm)?;
    } else if let Some(dict) = value.downcast_ref::<PyDict>() {
        let items = dict.items_vec();
        front(out, items.len(), &MAP);
        for (key, value) in items {
            encode_at(&key, out, depth + 1, vm)?;
            encode_at(&value, out, depth + 1, vm)?;
        }
    } else if let Some(list) = value.downcast_ref::<PyList>() {
        // A copy: nothing that is borrowed is held while fields of a dataclass are read.
        let elements = list.borrow_vec().to_vec();
        encode_all(&elements, out, depth, vm)?;
    } else if let Some(tuple) = value.downcast_ref::<PyTuple>() {
        encode_all(tuple.as_slice(), out, depth, vm)?;
    } else if value.downcast_ref::<PyByteArray>().is_some()
        || value.downcast_ref::<PyMemoryView>().is_some()
    {
        let bytes = ArgBytesLike::try_from_borrowed_object(vm, value)?;
        front(out, bytes.len(), &BINARY);
        bytes.with_ref(|bytes| put(out, bytes, vm))?;
    } else if let Some(fields) = vm.get_attribute_opt(value, "__dataclass_fields__")? {
        let Some(fields) = fields.downcast_ref::<PyDict>() else {
            return Err(vm.new_type_error("__dataclass_fields__ is no dict"));
        };
        let names = fields.keys_vec();
        front(out, names.len(), &MAP);
        for name in names {
            encode_at(&name, out, depth + 1, vm)?;
            let Some(name) = name.downcast_ref::<PyStr>() else {
                return Err(vm.new_type_error("a field of a dataclass has no name"));
            };
            let field = value.get_attr(name, vm)?;
            encode_at(&field, out, depth + 1, vm)?;
        }
    } else if value.downcast_ref::<PySet>().is_some()
        || value.downcast_ref::<PyFrozenSet>().is_some()
    {
        let elements: Vec<PyObjectRef> = value.try_to_value(vm)?;
        encode_all(&elements, out, depth, vm)?;
    } else if let Some(value) = vm.get_attribute_opt(value, "_value_")? {
        // A member of an enum.
        encode_at(&value, out, depth, vm)?;
    } else {
        let class = value.class().name().to_string();
        return Err(vm.new_type_error(format!("MessagePack has no {class}")));
    }
    Ok(())
}

fn encode_all(
    elements: &[PyObjectRef],
    out: &mut Vec<u8>,
    depth: usize,
    vm: &VirtualMachine,
) -> PyResult<()> {
    front(out, elements.len(), &ARRAY);
    elements
        .iter()
        .try_for_each(|element| encode_at(element, out, depth + 1, vm))
}

fn encode_int(number: &Py<PyInt>, out: &mut Vec<u8>, vm: &VirtualMachine) -> PyResult<()> {
    let number = number.as_bigint();
    if let Ok(number) = u64::try_from(number) {
        match number {
            0..0x80 => out.push(number as u8),
            0x80..0x100 => out.extend_from_slice(&[0xcc, number as u8]),
            0x100..0x1_0000 => with(out, 0xcd, &(number as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => with(out, 0xce, &(number as u32).to_be_bytes()),
            _ => with(out, 0xcf, &number.to_be_bytes()),
        }
    } else if let Ok(number) = i64::try_from(number) {
        match number {
            -32.. => out.push(number as u8),
            -0x80.. => out.extend_from_slice(&[0xd0, number as u8]),
            -0x8000.. => with(out, 0xd1, &(number as i16).to_be_bytes()),
            -0x8000_0000.. => with(out, 0xd2, &(number as i32).to_be_bytes()),
            _ => with(out, 0xd3, &number.to_be_bytes()),
        }
    } else {
        return Err(vm.new_overflow_error("MessagePack has integers of 64 bits"));
    }
    Ok(())
}

fn with(out: &mut Vec<u8>, marker: u8, bytes: &[u8]) {
    out.push(marker);
    out.extend_from_slice(bytes);
}

/// The markers of what has a length: the short form and its longest length, then those with 1, 2 and 4 bytes. 0: none.
type Markers = (u8, usize, [u8; 3]);
const TEXT: Markers = (0xa0, 31, [0xd9, 0xda, 0xdb]);
const BINARY: Markers = (0, 0, [0xc4, 0xc5, 0xc6]);
const ARRAY: Markers = (0x90, 15, [0, 0xdc, 0xdd]);
const MAP: Markers = (0x80, 15, [0, 0xde, 0xdf]);

fn front(out: &mut Vec<u8>, length: usize, (short, most, markers): &Markers) {
    if *short != 0 && length <= *most {
        out.push(short | length as u8);
    } else if markers[0] != 0 && length <= 0xff {
        out.extend_from_slice(&[markers[0], length as u8]);
    } else if length <= 0xffff {
        with(out, markers[1], &(length as u16).to_be_bytes());
    } else {
        with(out, markers[2], &(length as u32).to_be_bytes());
    }
}

/// Up to here no sender can bring about that there is no memory.
const SMALL: usize = 64 * 1024;

/// Roughly the bytes of memory that the decoded values take, rather too many than too few.
fn memory_of(bytes: &[u8]) -> usize {
    /// An object with its share of the heap.
    const OBJECT: usize = 64;
    /// A place in a list that grows, and an entry of a dict that grows.
    const ELEMENT: usize = 12;
    const ENTRY: usize = 72;
    let (mut at, mut sum) = (0, 0usize);
    while let Some(marker) = bytes.get(at) {
        let number = |width: usize| {
            let digits = bytes.get(at + 1..at + 1 + width).unwrap_or_default();
            digits
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        // How many bytes the front has, and the content; what it takes besides the content.
        let (front, content, takes) = match marker {
            0x80..0x90 => (1, 0, OBJECT + ENTRY * usize::from(marker & 15)),
            0x90..0xa0 => (1, 0, OBJECT + ELEMENT * usize::from(marker & 15)),
            0xa0..0xc0 => (1, usize::from(marker & 31), OBJECT),
            0xc4..0xc7 => (
                1 + (1 << (marker - 0xc4)),
                number(1 << (marker - 0xc4)),
                OBJECT,
            ),
            0xca => (5, 0, OBJECT),
            0xcb => (9, 0, OBJECT),
            0xcc..0xd0 => (1 + (1 << (marker - 0xcc)), 0, OBJECT),
            0xd0..0xd4 => (1 + (1 << (marker - 0xd0)), 0, OBJECT),
            0xd9..0xdc => (
                1 + (1 << (marker - 0xd9)),
                number(1 << (marker - 0xd9)),
                OBJECT,
            ),
            // A length that is a lie is found when the elements are not there.
            0xdc | 0xdd => (
                1 + (2 << (marker - 0xdc)),
                0,
                OBJECT + ELEMENT * number(2 << (marker - 0xdc)).min(bytes.len()),
            ),
            0xde | 0xdf => (
                1 + (2 << (marker - 0xde)),
                0,
                OBJECT + ENTRY * number(2 << (marker - 0xde)).min(bytes.len()),
            ),
            // The interpreter has these.
            _ => (1, 0, 0),
        };
        at = at.saturating_add(front).saturating_add(content);
        sum = sum
            .saturating_add(content.min(bytes.len()))
            .saturating_add(takes);
    }
    sum
}

/// Raises MemoryError if there is no room for so many bytes.
pub fn need(size: usize, vm: &VirtualMachine) -> PyResult<()> {
    let is_there = size <= SMALL || Vec::<u8>::new().try_reserve_exact(size).is_ok();
    is_there
        .then_some(())
        .ok_or_else(|| vm.new_memory_error("the process has no memory for this value"))
}

/// Reads a value. Returns it and how many bytes it took.
pub fn decode(bytes: &[u8], vm: &VirtualMachine) -> PyResult<(PyObjectRef, usize)> {
    if bytes.len() > SMALL / 64 {
        need(memory_of(bytes), vm)?;
    }
    let mut reader = Reader { bytes, at: 0, vm };
    let value = reader.value(0)?;
    Ok((value, reader.at))
}

/// Reads a value that is all of the bytes.
pub fn decode_whole(bytes: &[u8], vm: &VirtualMachine) -> PyResult {
    let (value, used) = decode(bytes, vm)?;
    if used < bytes.len() {
        let more = bytes.len() - used;
        return Err(vm.new_value_error(format!("no MessagePack: {more} bytes follow the value")));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    vm: &'a VirtualMachine,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &str) -> PyBaseExceptionRef {
        self.vm.new_value_error(format!("no MessagePack: {what}"))
    }

    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let bytes = bytes.ok_or_else(|| self.error("it ends too early"))?;
        self.at += count;
        Ok(bytes)
    }

    /// An unsigned number of up to 8 bytes.
    fn number(&mut self, width: usize) -> PyResult<u64> {
        Ok(self
            .take(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, width: usize) -> PyResult<PyObjectRef> {
        let unused = 64 - 8 * width as u32;
        let number = (self.number(width)? << unused) as i64 >> unused;
        Ok(self.vm.ctx.new_int(number).into())
    }

    fn value(&mut self, depth: usize) -> PyResult<PyObjectRef> {
        if depth > DEPTH {
            return Err(self.error(&format!("nested deeper than {DEPTH}")));
        }
        let ctx = &self.vm.ctx;
        let marker = self.take(1)?[0];
        let length = |reader: &mut Self, width| reader.number(width).map(|length| length as usize);
        Ok(match marker {
            0..0x80 => ctx.new_int(marker).into(),
            0x80..0x90 => self.map(usize::from(marker & 15), depth)?,
            0x90..0xa0 => self.array(usize::from(marker & 15), depth)?,
            0xa0..0xc0 => self.text(usize::from(marker & 31))?,
            0xc0 => ctx.none(),
            0xc2 => ctx.new_bool(false).into(),
            0xc3 => ctx.new_bool(true).into(),
            0xc4..0xc7 => {
                let length = length(self, 1 << (marker - 0xc4))?;
                ctx.new_bytes(self.take(length)?.to_vec()).into()
            }
            0xca => ctx
                .new_float(f32::from_bits(self.number(4)? as u32).into())
                .into(),
            0xcb => ctx.new_float(f64::from_bits(self.number(8)?)).into(),
            0xcc..0xd0 => ctx.new_int(self.number(1 << (marker - 0xcc))?).into(),
            0xd0..0xd4 => self.signed(1 << (marker - 0xd0))?,
            0xd9..0xdc => {
                let length = length(self, 1 << (marker - 0xd9))?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let length = length(self, 2 << (marker - 0xdc))?;
                self.array(length, depth)?
            }
            0xde | 0xdf => {
                let length = length(self, 2 << (marker - 0xde))?;
                self.map(length, depth)?
            }
            0xe0.. => ctx.new_int(marker as i8).into(),
            0xc1 => return Err(self.error("the byte 0xc1")),
            _ => return Err(self.error("an extension type")),
        })
    }

    fn text(&mut self, length: usize) -> PyResult<PyObjectRef> {
        let text = std::str::from_utf8(self.take(length)?)
            .map_err(|_| self.error("a text is no UTF-8"))?;
        Ok(self.vm.ctx.new_str(text).into())
    }

    fn array(&mut self, length: usize, depth: usize) -> PyResult<PyObjectRef> {
        let mut elements = Vec::with_capacity(length.min(MOST_RESERVED));
        for _ in 0..length {
            elements.push(self.value(depth + 1)?);
        }
        Ok(self.vm.ctx.new_list(elements).into())
    }

    fn map(&mut self, length: usize, depth: usize) -> PyResult<PyObjectRef> {
        let dict = self.vm.ctx.new_dict();
        for _ in 0..length {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            if key.downcast_ref::<PyList>().is_some() || key.downcast_ref::<PyDict>().is_some() {
                return Err(self.error("a list or a map as a key"));
            }
            dict.set_item(&*key, value, self.vm)?;
        }
        Ok(dict.into())
    }
}
