//! A task (`struct task_struct`), read where it lies in this kernel: by loads that the verifier knows to be from a kernel
//! structure, which cost next to nothing and read 0 where they fault. What a socket keeps of it, `owner` says.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use sockmeter_ebpf::place::{CONTROLLERS, HIERARCHIES, NO_HIERARCHY, Place, PlaceKey};
use sockmeter_ebpf::socket::COMM;

use super::globals::{field, offset, state};

/// `PF_KTHREAD` (`include/linux/sched.h`).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Bits of a process id (`PID_MAX_LIMIT` in `include/linux/threads.h`).
const ID_BITS: u32 = 22;

/// A kernel pointer to a task.
#[derive(Clone, Copy)]
pub(super) struct Task(*const u8);

impl Task {
    /// Whoever runs here.
    #[inline(always)]
    pub(super) fn current() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// A task that the verifier knows to be one.
    #[inline(always)]
    pub(super) fn of(task: *mut c_void) -> Self {
        Self(task.cast_const().cast())
    }

    /// Its thread-group id, which others call the process id.
    #[inline(always)]
    pub(super) fn group(self) -> u32 {
        load(self.0, offset::<{ field::TASK_GROUP }>())
    }

    /// What tells its process from all others of this host, also from later ones of the same id: of the start time the lower
    /// 42 bits, and the id.
    #[inline(always)]
    pub(super) fn process(self) -> u64 {
        (self.started() << ID_BITS) | u64::from(self.group())
    }

    /// When its process began, nanoseconds of `CLOCK_BOOTTIME`.
    #[inline(always)]
    fn started(self) -> u64 {
        load(self.leader(), offset::<{ field::TASK_STARTED }>())
    }

    /// Whether it is a thread of the kernel.
    #[inline(always)]
    pub(super) fn is_kernels(self) -> bool {
        let flags: u32 = load(self.0, offset::<{ field::TASK_FLAGS }>());
        flags & KERNEL_THREAD != 0
    }

    /// Inode number of its network namespace.
    #[inline(always)]
    pub(super) fn netns(self) -> u32 {
        let namespaces = load(self.0, offset::<{ field::TASK_NAMESPACES }>());
        let net = load(namespaces, offset::<{ field::NAMESPACES_NET }>());
        load(net, offset::<{ field::NET_INUM }>())
    }

    #[inline(always)]
    fn leader(self) -> *const u8 {
        load(self.0, offset::<{ field::GROUP_LEADER }>())
    }

    /// Copies the name of its thread-group leader; whether that could be read.
    #[inline(always)]
    pub(super) fn name(self, into: &mut [u8; COMM]) -> bool {
        let at = self.leader().wrapping_add(offset::<{ field::TASK_COMM }>());
        // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
        unsafe { bpf_probe_read_kernel(into.as_mut_ptr().cast(), COMM as u32, at.cast::<c_void>()) == 0 }
    }

    /// Where it stands.
    #[inline(always)]
    pub(super) fn place(self) -> Place {
        let mut place = Place { key: PlaceKey { cgroups: [0; HIERARCHIES] }, started: 0 };
        let set = load(self.0, offset::<{ field::TASK_CGROUPS }>());
        place.key.cgroups[0] = id_of_cgroup(load(set, offset::<{ field::SET_UNIFIED }>()));
        let mut controller = 0;
        while controller < CONTROLLERS.len() {
            let index = state(controller);
            if index != NO_HIERARCHY {
                let state = load(set, offset::<{ field::SET_STATES }>() + 8 * index as usize);
                place.key.cgroups[controller + 1] = id_of_cgroup(load(state, offset::<{ field::STATE_CGROUP }>()));
            }
            controller += 1;
        }
        place.started = self.started();
        place
    }
}

/// The id of a process as `Task::process` tells it.
#[inline(always)]
pub(super) fn id_of(process: u64) -> u32 {
    process as u32 & ((1 << ID_BITS) - 1)
}

/// The id of a cgroup.
#[inline(always)]
fn id_of_cgroup(cgroup: *const u8) -> u64 {
    load(load(cgroup, offset::<{ field::CGROUP_NODE }>()), offset::<{ field::NODE_ID }>())
}

#[inline(always)]
fn load<T: Copy>(from: *const u8, offset: usize) -> T {
    // SAFETY: a load that the verifier knows to be from a kernel structure: it reads 0 where it faults.
    unsafe { from.add(offset).cast::<T>().read_volatile() }
}
