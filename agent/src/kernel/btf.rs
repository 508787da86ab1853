//! Where fields lie in the running kernel's structures, from its own type description. Layout of that description:
//! `Documentation/bpf/btf.rst`. (The one crate that offers this is LGPL, which a static binary cannot take.)

use std::path::Path;

use sockmeter_ebpf::layout::field;

/// Where the kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The youngest function that the programs call.
const HELPER: &str = "BPF_FUNC_loop";
const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNCTION: u32 = 12;

/// What can be wrong with a kernel's types.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read the kernel's types at {path}: {source}\nhint: sockmeter needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not BTF, or cut off.
    #[error("the kernel's types are damaged: {0}")]
    Damaged(&'static str),
    /// There is no such function for programs to call.
    #[error(
        "this kernel has no {helper}, which the programs call\nhint: Linux {since} and later have it; the oldest kernel that is tested is 6.1"
    )]
    NoHelper {
        /// Its name in `enum bpf_func_id`.
        helper: &'static str,
        /// The release that it came with.
        since: &'static str,
    },
    /// A structure has no such field.
    #[error("this kernel has no field {structure}.{path}, which sockmeter reads")]
    Missing {
        /// Structure.
        structure: &'static str,
        /// Path of the field.
        path: &'static str,
    },
}

/// Offsets of all fields of `layout::field`, in that order: in bytes, but for the one whose field says bits.
pub type Offsets = [u32; field::COUNT];

/// What the programs' instructions are told of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structures {
    /// Where fields lie.
    pub offsets: Offsets,
    /// How it is told that a pointer is a TCP socket's; before 6.2 there is no way.
    pub cast: Option<Cast>,
}

/// A call that says what a pointer points to, of which nothing is left when the program is verified (`bpf_rdonly_cast`,
/// kernel/bpf/helpers.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// The type id of that function.
    pub function: u32,
    /// And that of `struct tcp_sock`.
    pub tcp_sock: u32,
}

/// Reads what the kernel programs need.
///
/// # Errors
/// When the kernel shows no types, or not these fields.
pub fn structures(path: &Path) -> Result<Structures, BtfError> {
    let bytes =
        std::fs::read(path).map_err(|source| BtfError::Unreadable { path: path.display().to_string(), source })?;
    let types = Types::parse(&bytes)?;
    if !types.has_name(HELPER.as_bytes()) {
        return Err(BtfError::NoHelper { helper: HELPER, since: "5.17" });
    }
    let mut offsets = [0; field::COUNT];
    for (index, (slot, (structure, path))) in offsets.iter_mut().zip(field::NAMES).enumerate() {
        let found = types.offset(structure, path);
        // A kernel without IPv6 has no such addresses, nor such sockets; an older one refuses what is behind the window, and
        // has no such state. With other spinlocks it cannot be seen that nobody holds them, nor on other processors, where what
        // is changed under a lock may be seen before the lock: there each socket that moved is passed over.
        let found = match index {
            field::SKC_LOCAL6 | field::SKC_REMOTE6 | field::RCV_MOST | field::STORAGE_STATE => found.or(Some(0)),
            field::SK_SPIN => found.filter(|_| cfg!(target_arch = "x86_64")).or(Some(0)),
            _ => found,
        };
        let bits = found.ok_or(BtfError::Missing { structure, path })?;
        *slot = if index == field::SK_USERLOCKS { bits } else { bits / 8 };
    }
    let function = types.ids(KIND_FUNCTION, "bpf_rdonly_cast").next();
    let tcp_sock = types.ids(KIND_STRUCT, "tcp_sock").next();
    let cast = function.zip(tcp_sock).map(|(function, tcp_sock)| Cast { function, tcp_sock });
    Ok(Structures { offsets, cast })
}

/// The index of a controller in `css_set.subsys`: `enum cgroup_subsys_id` (`include/linux/cgroup_subsys.h`).
///
/// # Errors
/// When the kernel shows no types.
pub fn controllers(path: &Path) -> Result<impl Fn(&str) -> Option<u32>, BtfError> {
    let bytes =
        std::fs::read(path).map_err(|source| BtfError::Unreadable { path: path.display().to_string(), source })?;
    let indexes = Types::parse(&bytes)?.enumerators("_cgrp_id");
    Ok(move |controller: &str| indexes.iter().find(|(name, _)| name == controller).map(|(_, index)| *index))
}

struct Types<'a> {
    /// Start of each type's record; index 0 is `void`.
    records: Vec<&'a [u8]>,
    strings: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn index(value: u32) -> Option<usize> {
    usize::try_from(value).ok()
}

struct Member {
    name: u32,
    kind: u32,
    /// In bits.
    offset: u32,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::read(bytes).ok_or(BtfError::Damaged("its header or a record is cut off"))
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_le_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let body = bytes.get(index(u32_at(bytes, 4)?)?..)?;
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = index(u32_at(bytes, at)?)?;
            body.get(start..start.checked_add(index(u32_at(bytes, at + 4)?)?)?)
        };
        let (mut rest, strings) = (section(8)?, section(16)?);
        let mut records: Vec<&[u8]> = vec![&[]];
        while !rest.is_empty() {
            let info = u32_at(rest, 4)?;
            let count = index(info & 0xffff)?;
            let extra = match (info >> 24) & 0x1f {
                1 | 14 | 17 => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
                KIND_ENUM | 13 => 8 * count,
                _ => 0,
            };
            let (record, behind) = rest.split_at_checked(12 + extra)?;
            records.push(record);
            rest = behind;
        }
        Some(Self { records, strings })
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        let from = self.strings.get(index(at)?..)?;
        from.split(|byte| *byte == 0).next()
    }

    /// The enumerators whose names end in `suffix`, without that, and their values.
    fn enumerators(&self, suffix: &str) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for record in &self.records {
            let info = u32_at(record, 4).unwrap_or(0);
            if (info >> 24) & 0x1f != KIND_ENUM {
                continue;
            }
            for one in record.get(12..).unwrap_or_default().as_chunks::<8>().0 {
                let name = u32_at(one, 0).and_then(|at| self.name(at)).and_then(|name| str::from_utf8(name).ok());
                if let (Some(name), Some(value)) = (name.and_then(|name| name.strip_suffix(suffix)), u32_at(one, 4)) {
                    found.push((name.to_owned(), value));
                }
            }
        }
        found
    }

    /// Whether anything has this name.
    fn has_name(&self, name: &[u8]) -> bool {
        self.strings.split(|byte| *byte == 0).any(|found| found == name)
    }

    fn kind(&self, id: u32) -> Option<u32> {
        if id == 0 {
            return Some(0);
        }
        Some((u32_at(self.records.get(index(id)?)?, 4)? >> 24) & 0x1f)
    }

    /// The type behind names and qualifiers (typedef, volatile, const, restrict, type tag).
    fn plain(&self, mut id: u32) -> Option<u32> {
        while matches!(self.kind(id)?, 8..=11 | 18) {
            id = u32_at(self.records.get(index(id)?)?, 8)?;
        }
        Some(id)
    }

    fn members(&self, id: u32) -> Option<Vec<Member>> {
        let id = self.plain(id)?;
        let record = *self.records.get(index(id)?)?;
        let info = u32_at(record, 4)?;
        if !matches!((info >> 24) & 0x1f, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let bitfields = info >> 31 == 1;
        (0..index(info & 0xffff)?)
            .map(|i| {
                let at = 12 + 12 * i;
                let offset = u32_at(record, at + 8)?;
                let offset = if bitfields { offset & 0x00ff_ffff } else { offset };
                Some(Member { name: u32_at(record, at)?, kind: u32_at(record, at + 4)?, offset })
            })
            .collect()
    }

    /// Offset in bits and type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, name: &[u8]) -> Option<(u32, u32)> {
        let members = self.members(id)?;
        for member in &members {
            if self.name(member.name)? == name {
                return Some((member.offset, member.kind));
            }
        }
        members.iter().filter(|member| self.name(member.name) == Some(b"")).find_map(|member| {
            let (offset, kind) = self.member(member.kind, name)?;
            Some((offset + member.offset, kind))
        })
    }

    /// The types of this kind and name.
    fn ids(&self, kind: u32, name: &str) -> impl Iterator<Item = u32> {
        let is_it = move |id: &u32| {
            let record = index(*id).and_then(|id| self.records.get(id));
            let found = record.and_then(|record| u32_at(record, 0)).and_then(|at| self.name(at));
            self.kind(*id) == Some(kind) && found == Some(name.as_bytes())
        };
        (1..u32::try_from(self.records.len()).unwrap_or(0)).filter(is_it)
    }

    /// Offset in bits of a dotted path in a structure.
    fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.ids(KIND_STRUCT, structure).find_map(|start| {
            let mut id = start;
            let mut bits = 0;
            for name in path.split('.') {
                let (offset, kind) = self.member(id, name.as_bytes())?;
                bits += offset;
                id = kind;
            }
            Some(bits)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// `struct outer { int a; struct { int b; struct inner c; }; }; struct inner { int d; int e; }`
    fn example() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0inner\0d\0e\0";
        let at = |name: &str| {
            let needle = [b"\0", name.as_bytes(), b"\0"].concat();
            u32::try_from(strings.windows(needle.len()).position(|w| w == needle).unwrap() + 1).unwrap()
        };
        let mut types: Vec<u32> = vec![at("int"), 1 << 24, 4, 32];
        types.extend([at("outer"), (4 << 24) | 2, 16, at("a"), 1, 0, 0, 3, 32]);
        types.extend([0, (4 << 24) | 2, 12, at("b"), 1, 0, at("c"), 4, 32]);
        types.extend([at("inner"), (4 << 24) | 2, 8, at("d"), 1, 0, at("e"), 1, 32]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut file = vec![0x9f, 0xeb, 1, 0];
        file.extend(24u32.to_le_bytes());
        file.extend([0u32.to_le_bytes(), len(&types), len(&types), len(strings)].concat());
        file.extend(types);
        file.extend(strings);
        file
    }

    #[test]
    fn finds_fields_through_anonymous_members_and_paths() {
        let file = example();
        let types = Types::parse(&file).unwrap();
        assert_eq!(types.offset("outer", "a"), Some(0));
        assert_eq!(types.offset("outer", "b"), Some(32));
        assert_eq!(types.offset("outer", "c.e"), Some(96));
        assert_eq!(types.offset("outer", "missing"), None);
        assert_eq!(types.offset("missing", "a"), None);
        assert_eq!(types.ids(KIND_STRUCT, "inner").collect::<Vec<_>>(), [4]);
        assert_eq!(types.ids(KIND_STRUCT, "int").next(), None);
        assert!(types.has_name(b"inner"));
        assert!(!types.has_name(b"inne"));
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let file = example();
        for len in 0..file.len() {
            assert!(matches!(Types::parse(&file[..len]), Err(BtfError::Damaged(_))), "{len} bytes");
        }
    }
}
