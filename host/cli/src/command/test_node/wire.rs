//! What a request and a response are made of; see `exuvia_abi::test_node`.

use std::io::{self, Read, Write};

use exuvia_node::abi::test_node::MOST;
use exuvia_node::abi::{Code, Pid};
use exuvia_node::process::Envelope;

/// Reads one request; returns `None` at the end of the input.
pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > MOST {
        return Err(io::Error::other(format!("a request of {length} bytes")));
    }
    let mut request = vec![0; length as usize];
    input.read_exact(&mut request)?;
    Ok(Some(request))
}

/// Writes one response.
pub(super) fn write(output: &mut impl Write, response: &Response) -> io::Result<()> {
    let length = u32::try_from(response.0.len()).unwrap_or(u32::MAX);
    output.write_all(&length.to_le_bytes())?;
    output.write_all(&response.0)?;
    output.flush()
}

/// The part of a request that has not been read yet.
pub(super) struct Request<'a>(pub(super) &'a [u8]);

impl<'a> Request<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = (self.0.split_at_checked(length)).ok_or("the request is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "impossible".to_owned())
    }

    pub(super) fn number(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn reference(&mut self) -> Result<u64, String> {
        self.number().map(i64::cast_unsigned)
    }

    /// Reads a number of 32 bits: a tag, a code, flags.
    pub(super) fn word(&mut self) -> Result<u32, String> {
        #[expect(clippy::cast_possible_truncation, reason = "it was a u32 or an i32")]
        self.number().map(|number| number as u32)
    }

    /// Reads a signed number of 32 bits.
    pub(super) fn int(&mut self) -> Result<i32, String> {
        self.word().map(u32::cast_signed)
    }

    pub(super) fn pid(&mut self) -> Result<Pid, String> {
        self.array().map(Pid::from_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize).map(<[u8]>::to_vec)
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?).map_err(|error| error.to_string())
    }
}

/// A response that is being made.
pub(super) struct Response(Vec<u8>);

impl Response {
    pub(super) fn new(code: i64) -> Response {
        Response(code.to_le_bytes().to_vec())
    }

    pub(super) fn code(code: Code) -> Response {
        Response::new(i64::from(code as i32))
    }

    pub(super) fn number(mut self, number: i64) -> Response {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn pid(mut self, pid: Pid) -> Response {
        self.0.extend(pid.to_bytes());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Response {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
        self.0.extend(bytes);
        self
    }

    pub(super) fn reference(self, reference: u64) -> Response {
        self.number(reference.cast_signed())
    }

    /// Appends a message: kind, sender, reference, tag, reason, payload.
    pub(super) fn message(self, message: &Envelope) -> Response {
        self.number(message.kind as i64)
            .pid(message.sender)
            .reference(message.reference)
            .number(i64::from(message.tag))
            .number(i64::from(message.reason))
            .bytes(message.payload.as_slice())
    }
}
