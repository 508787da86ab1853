//! A running agent, put together from the stages and the rim; and the commands that look at this host and kernel.
//!
//! One thread, the accountant, owns the kernel side and the books (`accountant`). The rest runs in a tokio runtime on the
//! main thread and sends it messages: the exporter's port (`desk`), the watch over the interfaces (`devices`), the
//! signals (`running`). `start` opens everything, so that a start that fails leaves nothing behind.

mod accountant;
mod check;
mod desk;
mod detach;
mod devices;
mod jobs;
mod observed;
mod own;
mod pace;
mod pods;
mod routes;
mod rules;
mod running;
mod start;
mod tunnels;

pub use self::check::check;
pub use self::detach::detach;
pub use self::routes::routes;
pub use self::running::run;
