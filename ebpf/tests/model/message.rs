//! One HTTP/1 message of the tests, written down together with where its head and each piece of its payload lie. This is
//! the independent truth: it comes from writing, never from reading.

use std::ops::Range;

/// How a message says where it ends, and its payload.
#[derive(Debug, Clone)]
pub(crate) enum Framing {
    /// No body, and no field about it.
    Bodiless,
    /// `Content-Length` with this white space and these zeros in front of the number.
    Length { length: usize, space: &'static str, zeros: usize },
    /// Chunks, each with an extension; then trailer fields.
    Chunked { coding: &'static str, chunks: Vec<Chunk>, trailers: Vec<String> },
    /// Until the connection ends; this many bytes.
    UntilClose(usize),
    /// A field that promises a body which never comes: the answer to `HEAD`, `304`.
    Promised(usize),
}

/// A chunk as it is spelled.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) length: usize,
    pub(crate) zeros: usize,
    pub(crate) upper: bool,
    pub(crate) extension: String,
}

/// A message before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Without its line end.
    pub(crate) first_line: String,
    /// Fields that do not matter; obsolete folds are in their values.
    pub(crate) fields: Vec<String>,
    /// Where among them the framing field stands.
    pub(crate) place: usize,
    pub(crate) framing: Framing,
    /// How the names of framing fields are spelled.
    pub(crate) spelling: Spelling,
    /// Lines end with a line feed alone.
    pub(crate) bare: bool,
}

/// See `Draft::spelling`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spelling {
    Canonical,
    Lower,
    Upper,
}

/// A written message: offsets count from `start`, the first byte that belongs to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) start: usize,
    pub(crate) line: Range<usize>,
    pub(crate) head_end: usize,
    pub(crate) end: usize,
    /// Where the payload lies.
    pub(crate) payload: Vec<Range<usize>>,
}

impl Written {
    /// Payload bytes in front of `limit`.
    pub(crate) fn payload_until(&self, limit: usize) -> u64 {
        let bytes: usize = self.payload.iter().map(|range| range.end.min(limit).saturating_sub(range.start)).sum();
        u64::try_from(bytes).unwrap()
    }

    /// Bytes in front of `limit`.
    pub(crate) fn wire_until(&self, limit: usize) -> u64 {
        u64::try_from(self.end.min(limit).saturating_sub(self.start)).unwrap()
    }
}

impl Draft {
    /// A message without any body.
    pub(crate) fn new(first_line: &str) -> Self {
        Self {
            first_line: first_line.to_owned(),
            fields: vec!["Host: a".to_owned()],
            place: 1,
            framing: Framing::Bodiless,
            spelling: Spelling::Canonical,
            bare: false,
        }
    }

    /// The same with another framing.
    pub(crate) fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Appends the message to `stream`.
    pub(crate) fn write(&self, stream: &mut Vec<u8>) -> Written {
        let line_end = if self.bare { "\n" } else { "\r\n" };
        let start = stream.len();
        stream.extend_from_slice(self.first_line.as_bytes());
        let line = start..stream.len();
        stream.extend_from_slice(line_end.as_bytes());
        for (index, field) in self.fields.iter().enumerate() {
            if index == self.place {
                self.framing_field(stream, line_end);
            }
            stream.extend_from_slice(field.as_bytes());
            stream.extend_from_slice(line_end.as_bytes());
        }
        if self.place >= self.fields.len() {
            self.framing_field(stream, line_end);
        }
        stream.extend_from_slice(line_end.as_bytes());
        let head_end = stream.len();
        let mut payload = Vec::new();
        match &self.framing {
            Framing::Bodiless | Framing::Promised(_) => {}
            Framing::Length { length, .. } | Framing::UntilClose(length) => payload.push(fill(stream, *length)),
            Framing::Chunked { chunks, trailers, .. } => {
                for chunk in chunks {
                    let size = if chunk.upper { format!("{:X}", chunk.length) } else { format!("{:x}", chunk.length) };
                    let zeros = "0".repeat(chunk.zeros);
                    stream.extend_from_slice(format!("{zeros}{size}{}\r\n", chunk.extension).as_bytes());
                    payload.push(fill(stream, chunk.length));
                    stream.extend_from_slice(b"\r\n");
                }
                stream.extend_from_slice(format!("0{line_end}").as_bytes());
                for trailer in trailers {
                    stream.extend_from_slice(format!("{trailer}{line_end}").as_bytes());
                }
                stream.extend_from_slice(line_end.as_bytes());
            }
        }
        Written { start, line, head_end, end: stream.len(), payload }
    }

    fn framing_field(&self, stream: &mut Vec<u8>, line_end: &str) {
        let (name, value) = match &self.framing {
            Framing::Bodiless | Framing::UntilClose(_) => return,
            Framing::Length { length, space, zeros } => {
                ("Content-Length", format!("{space}{}{length}", "0".repeat(*zeros)))
            }
            Framing::Promised(length) => ("Content-Length", format!(" {length}")),
            Framing::Chunked { coding, .. } => ("Transfer-Encoding", (*coding).to_owned()),
        };
        let name = match self.spelling {
            Spelling::Canonical => name.to_owned(),
            Spelling::Lower => name.to_ascii_lowercase(),
            Spelling::Upper => name.to_ascii_uppercase(),
        };
        stream.extend_from_slice(format!("{name}:{value}{line_end}").as_bytes());
    }
}

/// Payload that looks like HTTP itself.
fn fill(stream: &mut Vec<u8>, length: usize) -> Range<usize> {
    const PATTERN: &[u8] =
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n\n\0\xff";
    let start = stream.len();
    stream.extend(PATTERN.iter().cycle().skip(start % PATTERN.len()).take(length));
    start..stream.len()
}
