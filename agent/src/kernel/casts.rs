//! Writing into the kernel object how the verifier is told that a pointer is a TCP socket's. What a kernel has for that, `btf` reads.

use sockmeter_ebpf::layout::cast::{HELPER, PLACE};

use super::btf::Cast;

/// A load of 64 bits and a call: code, registers, offset, number, each (RFC 9669 3); the load's upper half stands between them.
const SIZE: usize = 24;
/// Code of a call, `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// The source register of a call that names its function by a type id (`BPF_PSEUDO_KFUNC_CALL`, include/uapi/linux/bpf.h).
const BY_TYPE: u8 = 2 << 4;
/// Instructions lie at multiples of this.
const STEP: usize = 8;

/// Makes each call of `HELPER` in `object` that has the place for it one of `cast`'s function, which says what the helper asks. Without
/// one they stay.
pub(super) fn fill(object: &mut [u8], cast: Option<Cast>) {
    let Some(cast) = cast else {
        return;
    };
    let mut from = 0;
    while let Some(instructions) = object.get_mut(from..).and_then(<[u8]>::first_chunk_mut::<SIZE>) {
        if *instructions == asking() {
            *instructions = saying(cast);
        }
        from += STEP;
    }
}

/// What the compiler wrote.
fn asking() -> [u8; SIZE] {
    instructions(PLACE, 0, HELPER)
}

fn saying(cast: Cast) -> [u8; SIZE] {
    instructions(u64::from(cast.tcp_sock), BY_TYPE, cast.function)
}

/// `r2 = value ll; call function`
fn instructions(value: u64, registers: u8, function: u32) -> [u8; SIZE] {
    /// `BPF_LD | BPF_DW | BPF_IMM`, and its register.
    const LOAD: [u8; 4] = [0x18, 2, 0, 0];
    let value = value.to_le_bytes();
    let (low, high) = value.split_at(4);
    let parts: [&[u8]; SIZE / 4] = [&LOAD, low, &[0; 4], high, &[CALL, registers, 0, 0], &function.to_le_bytes()];
    let mut written = [0; SIZE];
    for (place, part) in written.chunks_mut(4).zip(parts) {
        place.copy_from_slice(part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::object;
    use super::*;

    const CAST: Cast = Cast { function: 0x0102_0304, tcp_sock: 7 };

    fn places(object: &[u8]) -> usize {
        object.windows(SIZE).filter(|bytes| **bytes == asking()).count()
    }

    #[test]
    fn only_calls_with_a_place_are_replaced() {
        let mut others = asking();
        others[SIZE - 4] += 1;
        let mut object = [asking(), others, asking()].concat();
        object.extend(&asking()[..SIZE - 1]);
        let mut expected = [saying(CAST), others, saying(CAST)].concat();
        expected.extend(&asking()[..SIZE - 1]);
        fill(&mut object, Some(CAST));
        assert_eq!(object, expected);
        assert_eq!(expected[..8], [0x18, 2, 0, 0, 7, 0, 0, 0]);
        assert_eq!(expected[16..24], [0x85, 0x20, 0, 0, 4, 3, 2, 1]);
    }

    /// Where the object was not built, there is nothing to see.
    #[test]
    fn the_programs_say_so_and_ask_where_a_kernel_has_nothing_else() {
        let Ok(object) = object::built() else {
            return;
        };
        let mut object = object.into_owned();
        let all = places(&object);
        assert_ne!(all, 0);
        fill(&mut object, None);
        assert_eq!(places(&object), all);
        // None is left, so all lie where instructions do.
        fill(&mut object, Some(CAST));
        assert_eq!(places(&object), 0);
    }
}
