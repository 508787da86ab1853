//! Kernel programs of a few instructions, put into an ELF file as an assembler would. What they are for is `empty`'s and
//! `floor`'s.

use anyhow::Result;
use object::write::{Object, Relocation, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// A program.
pub(crate) struct Assembled {
    /// Section, which is its kind (libbpf's `program_types`).
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) code: Code,
}

/// A map: name, and `type`, `key_size`, `value_size`, `max_entries`, `map_flags` (`union bpf_attr`).
pub(crate) type Map = (&'static str, [u32; 5]);

/// Instructions (RFC 9669, 3 to 5), and which of them load a map's address.
#[derive(Debug, Default)]
pub(crate) struct Code {
    bytes: Vec<u8>,
    maps: Vec<(u64, &'static str)>,
}

/// `R_BPF_64_64` (the kernel's Documentation/bpf/llvm_reloc.rst).
const MAP_ADDRESS: u32 = 1;

impl Code {
    /// One instruction: operation, destination and source register, offset, immediate value.
    pub(crate) fn push(mut self, operation: u8, registers: [u8; 2], offset: i16, value: i32) -> Self {
        self.bytes.extend([operation, registers[0] | registers[1] << 4]);
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// `register = value`.
    pub(crate) fn set(self, register: u8, value: i32) -> Self {
        self.push(0xb7, [register, 0], 0, value)
    }

    /// `register = other`.
    pub(crate) fn copy(self, register: u8, other: u8) -> Self {
        self.push(0xbf, [register, other], 0, 0)
    }

    /// `register = value`, of 64 bits.
    pub(crate) fn wide(self, register: u8, value: u64) -> Self {
        let [low, high] = [value, value >> 32].map(|half| {
            let [a, b, c, d, ..] = half.to_le_bytes();
            i32::from_le_bytes([a, b, c, d])
        });
        self.push(0x18, [register, 0], 0, low).push(0, [0, 0], 0, high)
    }

    /// `register` = this map.
    pub(crate) fn map(mut self, register: u8, name: &'static str) -> Self {
        self.maps.push((u64::try_from(self.bytes.len()).unwrap_or(u64::MAX), name));
        self.push(0x18, [register, 0], 0, 0).push(0, [0, 0], 0, 0)
    }

    /// Calls a helper of the kernel (`enum bpf_func_id`).
    pub(crate) fn call(self, helper: i32) -> Self {
        self.push(0x85, [0, 0], 0, helper)
    }

    /// `return value`.
    pub(crate) fn end(self, value: i32) -> Self {
        self.set(0, value).push(0x95, [0, 0], 0, 0)
    }

    /// Length in instructions.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / 8
    }

    /// The instructions, and behind them those.
    pub(crate) fn then(mut self, more: Self) -> Self {
        let here = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        self.maps.extend(more.maps.into_iter().map(|(at, name)| (here + at, name)));
        self.bytes.extend(more.bytes);
        self
    }
}

fn symbol(name: &str, at: u64, size: u64, kind: SymbolKind, section: object::write::SectionId) -> Symbol {
    Symbol {
        name: name.as_bytes().to_vec(),
        value: at,
        size,
        kind,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    }
}

/// The file.
pub(crate) fn elf(programs: &[Assembled], maps: &[Map]) -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"Dual MIT/GPL\0", 1);
    let mut symbols: Vec<(&str, SymbolId)> = Vec::new();
    if !maps.is_empty() {
        let section = object.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
        for (name, definition) in maps {
            let bytes: Vec<u8> = definition.iter().flat_map(|field| field.to_le_bytes()).collect();
            let at = object.append_section_data(section, &bytes, 4);
            symbols.push((name, object.add_symbol(symbol(name, at, 20, SymbolKind::Data, section))));
        }
    }
    for program in programs {
        let size = u64::try_from(program.code.bytes.len())?;
        let section = object.add_section(Vec::new(), program.section.as_bytes().to_vec(), SectionKind::Text);
        let at = object.append_section_data(section, &program.code.bytes, 8);
        object.add_symbol(symbol(program.name, at, size, SymbolKind::Text, section));
        for (place, map) in &program.code.maps {
            if let Some((_, symbol)) = symbols.iter().find(|(name, _)| name == map) {
                let flags = RelocationFlags::Elf { r_type: MAP_ADDRESS };
                object.add_relocation(section, Relocation { offset: at + place, symbol: *symbol, addend: 0, flags })?;
            }
        }
    }
    Ok(object.write()?)
}
