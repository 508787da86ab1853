//! Reading HTTP/1 (RFC 9112) just far enough to know where each message begins and ends. Which bytes belong to which
//! exchange is `conn` and `settle`; routes and metrics are user space's.

pub mod head;
pub mod scan;
pub mod side;
mod value;
pub mod window;
