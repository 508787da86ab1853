//! The command line: words in, exit code out. What a command does is handed in as [`Commands`] by `main`; what the
//! settings mean is in `config`.

mod arguments;
mod colour;
mod exit;
mod flags;
mod log;
mod report;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};

use crate::config::{self, Configuration, Effective, Settings};
use arguments::{Arguments, Command, ConfigCommand};

pub use exit::{Exit, Failure};

/// What the commands do. The command line only finds out which one is wanted and with which settings.
#[derive(Clone, Copy, Debug)]
pub struct Commands {
    /// Serves until it is asked to stop. The configuration is for reading it again on SIGHUP.
    pub run: fn(Settings, Configuration) -> Result<Exit, Failure>,
    /// Says line by line what this kernel and these privileges allow.
    pub check: fn(&Settings, &mut dyn Write) -> Result<Exit, Failure>,
    /// Removes everything of ours from the kernel, and says what it removed.
    pub detach: fn(&Settings, &mut dyn Write) -> Result<Exit, Failure>,
    /// Prints the endpoint of each path under the routes of a file.
    pub routes: fn(&RoutesQuestion, &mut dyn Write) -> Result<Exit, Failure>,
}

/// What `sockmeter routes` asks: what these paths would be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesQuestion {
    /// The file of declared routes.
    pub file: PathBuf,
    /// The method of the requests, as it was written.
    pub method: String,
    /// Their paths.
    pub paths: Vec<String>,
}

/// Does what the arguments say, and prints what went wrong to standard error.
///
/// `arguments` starts with the program's name; `variables` is the environment.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    commands: &Commands,
) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let choice = colour::choice_in(&arguments);
    choice.write_global();
    let parsed = Arguments::command()
        .color(colour::for_clap(choice))
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let result = match parsed {
        Ok(arguments) => execute(arguments.command, variables.into_iter().collect(), commands),
        Err(error) if error.use_stderr() => Err(report::of_usage(&error)),
        Err(help) => help.print().map(|()| Exit::Stopped).map_err(Failure::from),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe() => Exit::Stopped,
        Err(failure) => {
            report::print(&failure);
            failure.exit()
        }
    }
}

fn execute(command: Command, variables: Vec<(OsString, OsString)>, commands: &Commands) -> Result<Exit, Failure> {
    let mut out = anstream::stdout().lock();
    match command {
        Command::Run(flags) => {
            let configuration = flags.configuration(variables)?;
            let settings = configuration.load()?.settings;
            config::refuse_unavailable(&settings)?;
            log::start(settings.log);
            drop(out);
            (commands.run)(settings, configuration)
        }
        Command::Check(flags) => (commands.check)(&load(*flags, variables)?.settings, &mut out),
        Command::Detach(flags) => (commands.detach)(&load(*flags, variables)?.settings, &mut out),
        Command::Config { command: ConfigCommand::Check { file } } => {
            let settings = Configuration::of_file(&file).load()?.settings;
            writeln!(out, "{}: good", file.display())?;
            if let Err(error) = config::refuse_unavailable(&settings) {
                writeln!(out, "but `run` refuses it: {error}")?;
            }
            Ok(Exit::Stopped)
        }
        Command::Config { command: ConfigCommand::Show(flags) } => {
            write!(out, "{}", config::show(&load(*flags, variables)?))?;
            Ok(Exit::Stopped)
        }
        Command::Routes { routes: file, method, paths } => {
            (commands.routes)(&RoutesQuestion { file, method, paths }, &mut out)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sockmeter", &mut script);
            out.write_all(&script)?;
            Ok(Exit::Stopped)
        }
        Command::Man { command } => {
            manual(command.as_deref(), &mut out)?;
            Ok(Exit::Stopped)
        }
    }
}

fn load(flags: flags::Flags, variables: Vec<(OsString, OsString)>) -> Result<Effective, Failure> {
    Ok(flags.configuration(variables)?.load()?)
}

/// The manual page of the whole, or of one command.
fn manual(name: Option<&str>, out: &mut impl Write) -> Result<(), Failure> {
    let mut whole = Arguments::command();
    whole.build();
    let page = match name {
        None => whole,
        Some(name) => {
            let known: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
            let known = known.join(", ");
            let found = whole.find_subcommand(name).cloned();
            found.ok_or_else(|| {
                Failure::usage(anyhow::anyhow!("there is no command {name:?}\nhint: the commands are {known}"))
            })?
        }
    };
    clap_mangen::Man::new(page).render(out).map_err(|error: io::Error| error.into())
}
