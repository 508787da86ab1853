//! The lines of `sockmeter check` on WireGuard: which of this namespace's interfaces are its, and whether their peers can be
//! read. How they are read is `host::wireguard`'s, how lines look `check`'s.

use tokio::runtime::Builder;

use super::devices::Devices;
use crate::host::wireguard::{Asked, Interfaces, Reader};
use crate::kernel::Refusal;

/// A line: what it is about, and what was found.
pub(super) type Line = (String, Result<String, Refusal>);

/// A line for each interface, by name; none where there is none.
///
/// # Errors
/// When the interfaces cannot be listed.
pub(super) fn lines() -> Result<Vec<Line>, Refusal> {
    let failed = |error: std::io::Error| Refusal::because("cannot list the interfaces", &error);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let asked = runtime.block_on(async {
        let devices = Devices::open().map_err(failed)?.all().await;
        let devices = devices.ok_or_else(|| Refusal::new("cannot list the interfaces: netlink does not answer"))?;
        let found = Interfaces::of(devices.iter().map(|device| (device.name(), device.is_wireguard())));
        Ok::<_, Refusal>(Reader::default().ask(found).await)
    })?;
    Ok(asked.into_iter().map(line).collect())
}

fn line(asked: Asked) -> Line {
    let Asked { interface, is_kernels, peers } = asked;
    let found = match peers {
        Ok(count) => {
            let by = if is_kernels { "the kernel" } else { "its process" };
            Ok(format!("{by} tells {count} {}", if count == 1 { "peer" } else { "peers" }))
        }
        Err(untold) => {
            let refusal = Refusal::new(untold.to_string());
            Err(match untold.hint() {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            })
        }
    };
    (format!("WireGuard {interface}"), found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::wireguard::Untold;

    #[test]
    fn what_the_kernel_does_not_tell_has_its_hint() {
        let of = |peers| {
            let (what, found) = line(Asked { interface: "wg0".to_owned(), is_kernels: true, peers });
            (what, found.map_err(|refusal| refusal.to_string()))
        };
        let name = "WireGuard wg0".to_owned();
        assert_eq!(of(Ok(3)), (name.clone(), Ok("the kernel tells 3 peers".to_owned())));
        let hint = "the kernel tells its peers with CAP_NET_ADMIN only\nhint: run as root, or grant CAP_NET_ADMIN";
        assert_eq!(of(Err(Untold::Capability)), (name.clone(), Err(hint.to_owned())));
        assert_eq!(of(Err(Untold::Late)), (name, Err("no answer within 2 s".to_owned())));
    }
}
