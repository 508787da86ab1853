//! The values of framing fields and chunk-size lines. Finding them is `scan`.

use super::scan::LOWER;
use super::side::{self, Side};
use super::window::{CARRY, Window};
use crate::conn::{Outside, Steps};

/// More than any message has: numbers do not grow further, so that positions never wrap.
const HUGE: u64 = 1 << 56;
const CHUNKED: u64 = u64::from_le_bytes(*b"\0chunked");
const SEVEN_HIGH: u64 = 0xffff_ffff_ffff_ff00;

/// Notes whether the final transfer coding, which ends at `end` but for white space, is `chunked` (RFC 9112 6.1).
#[inline(always)]
pub(super) fn coding<O: Outside>(side: &mut Side, window: &Window, end: u32) {
    let mut trim = Trim { window, end };
    O::repeat(CARRY, &mut trim);
    let tail = window.word(window.blur(trim.end).wrapping_sub(8));
    if (tail | LOWER) & SEVEN_HIGH == CHUNKED | (LOWER & SEVEN_HIGH) {
        side.flags |= side::CHUNKED;
    } else {
        side.flags &= !side::CHUNKED;
    }
}

/// White space that is being left out, a byte a step.
struct Trim<'a> {
    window: &'a Window,
    end: u32,
}

impl Steps for Trim<'_> {
    const DIRECT: u32 = 1;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let last = self.window.blur(self.end.wrapping_sub(1));
        let byte = self.window.byte(last);
        if byte != b' ' && byte != b'\t' {
            return false;
        }
        self.end = last;
        true
    }
}

/// A number that is being read, a byte a step.
struct Digits<'a> {
    window: &'a Window,
    at: u64,
    value: u64,
    /// Not 0: there was a digit.
    any: u64,
    /// Not 0: something that is no digit came.
    ended: u64,
    /// Not 0: the value is `HUGE` or more. Gathered without a branch, which the verifier would follow for every value.
    over: u64,
}

impl Digits<'_> {
    #[inline(always)]
    fn of(window: &Window, at: u32) -> Digits<'_> {
        let nothing = window.nothing();
        Digits { window, at: u64::from(at), value: nothing, any: nothing, ended: nothing, over: nothing }
    }

    #[inline(always)]
    fn value(&self) -> u64 {
        if self.over == 0 { self.value } else { HUGE }
    }
}

/// The decimal number at `at`, white space in front ignored; what is no digit ends it (RFC 9110 8.6).
#[inline(always)]
pub(super) fn decimal<O: Outside>(window: &Window, at: u32) -> u64 {
    let mut decimal = Decimal(Digits::of(window, at));
    O::repeat(CARRY, &mut decimal);
    decimal.0.value()
}

struct Decimal<'a>(Digits<'a>);

impl Steps for Decimal<'_> {
    const DIRECT: u32 = 8;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let number = &mut self.0;
        let at = number.window.blur(number.at as u32);
        let byte = number.window.byte(at);
        number.at = u64::from(at) + 1;
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            number.any = 1;
            number.over |= number.value >> 52;
            number.value = number.value.wrapping_mul(10).wrapping_add(u64::from(digit));
            return true;
        }
        number.any == 0 && (byte == b' ' || byte == b'\t')
    }
}

/// The chunk size at `at` (RFC 9112 7.1: hexadecimal, extensions behind it ignored); `None` if there is no digit, or more of
/// them than are looked at.
#[inline(always)]
pub(super) fn chunk_size<O: Outside>(window: &Window, at: u32) -> Option<u64> {
    let mut hexadecimal = Hexadecimal(Digits::of(window, at));
    O::repeat(CARRY, &mut hexadecimal);
    if hexadecimal.0.any == 0 || hexadecimal.0.ended == 0 { None } else { Some(hexadecimal.0.value()) }
}

struct Hexadecimal<'a>(Digits<'a>);

impl Steps for Hexadecimal<'_> {
    const DIRECT: u32 = 6;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let number = &mut self.0;
        let at = number.window.blur(number.at as u32);
        let byte = number.window.byte(at);
        number.at = u64::from(at) + 1;
        let low = byte | 0x20;
        let digit = if byte.wrapping_sub(b'0') < 10 {
            byte - b'0'
        } else if low.wrapping_sub(b'a') < 6 {
            low - b'a' + 10
        } else {
            number.ended = 1;
            return false;
        };
        number.any = 1;
        number.over |= number.value >> 52;
        number.value = (number.value << 4) | u64::from(digit);
        true
    }
}
