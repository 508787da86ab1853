//! The ports whose packets are looked at further, when a start takes over what did not keep them. The programs note them
//! (`kernel/served.rs` of the kernel side).

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use sockmeter_ebpf::served::Served;

use super::Refusal;

const SIZE: usize = size_of::<Served>();
const BEGUN: usize = std::mem::offset_of!(Served, begun);

/// Makes the sets begin: empty, if nothing was counted before; else with every port, for nobody knows which connections an earlier
/// version began. Before programs of this version are attached.
///
/// # Errors
/// When the kernel refuses to read or to write the map.
pub(super) fn prepare(ebpf: &mut Ebpf, is_new: bool) -> Result<(), Refusal> {
    let failed = |error: MapError| Refusal::because("cannot prepare the map of ports", &error);
    // It stays where it is: the programs are yet to be loaded with it.
    let map = ebpf.map_mut("SERVED").ok_or_else(|| Refusal::new("the kernel object has no map SERVED"))?;
    let mut map: Array<&mut MapData, [u8; SIZE]> = map.try_into().map_err(failed)?;
    let mut served = map.get(&0, 0).map_err(failed)?;
    let begun = BEGUN..BEGUN + size_of::<u64>();
    if served[begun.clone()] != [0; 8] {
        return Ok(());
    }
    served.fill(if is_new { 0 } else { u8::MAX });
    served[begun].copy_from_slice(&1_u64.to_ne_bytes());
    map.set(0, served, 0).map_err(failed)
}
