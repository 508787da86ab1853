//! The `sockmeter` binary: hands the commands to the command line. What they do is in the library.
#![forbid(unsafe_code)]

use std::io::Write;

use sockmeter::cli::{self, Commands, Exit, Failure, RoutesQuestion};
use sockmeter::config::{Configuration, Settings};

fn main() -> Exit {
    let commands = Commands {
        run,
        check,
        detach,
        routes,
    };
    cli::main(std::env::args_os(), std::env::vars_os(), &commands)
}

fn run(_: Settings, _: Configuration) -> Result<Exit, Failure> {
    Err(absent("run"))
}

fn check(_: &Settings, _: &mut dyn Write) -> Result<Exit, Failure> {
    Err(absent("check"))
}

fn detach(_: &Settings, _: &mut dyn Write) -> Result<Exit, Failure> {
    Err(absent("detach"))
}

fn routes(_: &RoutesQuestion, _: &mut dyn Write) -> Result<Exit, Failure> {
    Err(absent("routes"))
}

fn absent(command: &str) -> Failure {
    Failure::kernel(anyhow::anyhow!("{command} is not available in this build"))
}
