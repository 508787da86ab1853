//! The names of cgroups, noted while they have one. Who is in which cgroup is in `task`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sockmeter_ebpf::place::{CgroupKey, HIERARCHIES, NAME};

use super::globals::{field, number, offset};
use super::maps::{CGROUP_NAMES, CGROUPS_GONE, NAMING};

/// `BPF_ANY`.
const ANY: u64 = 0;

/// `cgroup_mkdir(cgrp, path)`, before anybody can enter it (`kernel/cgroup/cgroup.c`, `cgroup_mkdir`).
#[btf_tracepoint(function = "cgroup_mkdir")]
pub(super) fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    name(ctx.arg(0))
}

/// `cgroup_rename(cgrp, path)`: version 1 only (`kernel/cgroup/cgroup-v1.c`, `cgroup1_rename`).
#[btf_tracepoint(function = "cgroup_rename")]
pub(super) fn cgroup_renamed(ctx: BtfTracePointContext) -> i32 {
    name(ctx.arg(0))
}

/// `cgroup_rmdir(cgrp, path)`: nobody is in it any more.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub(super) fn cgroup_gone(ctx: BtfTracePointContext) -> i32 {
    let Some(key) = key(ctx.arg(0)) else {
        return 0;
    };
    if let Some(name) = CGROUP_NAMES.get_ptr_mut(key) {
        // SAFETY: a map value. No arguments.
        unsafe { (*name).gone = bpf_ktime_get_ns() };
    }
    let _ = CGROUPS_GONE.push(key, 0);
    0
}

/// The pointer that lies at `at`; null if it cannot be read.
#[inline(always)]
fn pointer(at: *const u8) -> *const u8 {
    u64_at(at) as usize as *const u8
}

/// The word that lies at `at`; 0 if it cannot be read.
#[inline(always)]
fn u64_at(at: *const u8) -> u64 {
    let mut word = 0u64;
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, at.cast::<c_void>()) };
    word
}

/// The id of a cgroup.
#[inline(always)]
fn id_of(cgroup: *const u8) -> u64 {
    let node = pointer(cgroup.wrapping_add(offset::<{ field::CGROUP_NODE }>()));
    u64_at(node.wrapping_add(offset::<{ field::NODE_ID }>()))
}

/// The key of a cgroup; `None` if its hierarchy is none of those that are looked at.
#[inline(always)]
fn key(cgroup: *const c_void) -> Option<CgroupKey> {
    let cgroup = cgroup.cast::<u8>();
    let root = pointer(cgroup.wrapping_add(offset::<{ field::CGROUP_ROOT }>()));
    let mut hierarchy = 0u32;
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe {
        let at = root.wrapping_add(offset::<{ field::ROOT_HIERARCHY }>());
        bpf_probe_read_kernel((&raw mut hierarchy).cast(), 4, at.cast::<c_void>());
    }
    let mut index = 0;
    while index < HIERARCHIES {
        if number(index) == hierarchy {
            return Some(CgroupKey { hierarchy: u64::from(hierarchy), id: id_of(cgroup) });
        }
        index += 1;
    }
    None
}

#[inline(always)]
fn name(cgroup: *const c_void) -> i32 {
    let Some(key) = key(cgroup) else {
        return 0;
    };
    let Some(naming) = NAMING.get_ptr_mut(0) else {
        return 0;
    };
    let cgroup = cgroup.cast::<u8>();
    let above = pointer(cgroup.wrapping_add(offset::<{ field::CGROUP_PARENT }>()));
    let node = pointer(cgroup.wrapping_add(offset::<{ field::CGROUP_NODE }>()));
    // SAFETY: an element of an array map; kernel memory is copied by helpers that fail instead of faulting.
    unsafe {
        (*naming).parent =
            if above.is_null() { 0 } else { id_of(pointer(above.wrapping_add(offset::<{ field::STATE_CGROUP }>()))) };
        (*naming).gone = 0;
        let from = pointer(node.wrapping_add(offset::<{ field::NODE_NAME }>()));
        let to = (&raw mut (*naming).name).cast::<c_void>();
        if bpf_probe_read_kernel_str(to, NAME as u32, from.cast::<c_void>()) < 0 {
            return 0;
        }
        let _ = CGROUP_NAMES.insert(key, &*naming, ANY);
    }
    0
}
