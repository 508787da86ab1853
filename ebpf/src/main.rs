//! sockmeter's kernel programs. What they share with user space, and the reading of HTTP, is the library beside this.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "register widths are the instruction set's, and ports and lengths are narrower than the words they come in"
    )
)]
#![cfg_attr(
    target_arch = "bpf",
    feature(asm_experimental_arch, core_intrinsics),
    expect(internal_features, reason = "see kernel/atomic.rs")
)]

#[cfg(target_arch = "bpf")]
mod kernel;

/// The kernel decides at load time what a program may call: these programs use helpers that are for GPL-compatible code.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this binary is for the kernel: build it with `cargo xtask build-ebpf`");
}
