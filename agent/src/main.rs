//! The `sockmeter` binary: hands the commands to the command line. What they do is in the library.
#![forbid(unsafe_code)]

use sockmeter::cli::{self, Commands, Exit};
use sockmeter::pipeline;

fn main() -> Exit {
    let commands =
        Commands { run: pipeline::run, check: pipeline::check, detach: pipeline::detach, routes: pipeline::routes };
    cli::main(std::env::args_os(), std::env::vars_os(), &commands)
}
