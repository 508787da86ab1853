//! The grammar of the command line and what `--help` says. The flags that are settings too are in `flags`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::flags::Flags;

const EXAMPLES: &str = "\
Examples:
  Can it work here?
    sockmeter check
  Observe a scheduler on port 8080, and serve http://127.0.0.1:9464/metrics:
    sudo sockmeter run
  Observe another service, with its routes:
    sudo sockmeter run --service api=9000,9001 --routes api=openapi.json
  What would this path be called?
    sockmeter routes --routes routes.txt GET /jobs/17
  Leave no trace in the kernel:
    sudo sockmeter detach

Exit codes:
  0  stopped on request, or done
  1  failed at run time
  2  wrong usage or configuration
  3  this kernel or these privileges cannot do it";

const PRECEDENCE: &str = "\
Every flag is also a key of the configuration file (--log-level is log_level) and an environment variable
(SOCKMETER_LOG_LEVEL; lists are separated by spaces). A flag beats the environment, the environment beats the file.
`sockmeter config show` with the same flags prints what is in force, and why.";

/// Counts every byte that a service's sockets carry, in the kernel, and serves it to Prometheus.
#[derive(Debug, Parser)]
#[command(name = "sockmeter", version, after_help = EXAMPLES, max_term_width = 120)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// When to colour output
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = When::Auto, help_heading = "Output")]
    color: When,
}

/// When to colour. The value is taken before parsing, in `colour`; here it is only checked and explained.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Count and serve until asked to stop
    ///
    /// Prints one line per kernel program (attached, or why not), then `listening on http://ADDR:PORT`. SIGHUP reads
    /// the configuration again, SIGTERM and SIGINT stop it within two seconds. What it pinned goes on counting.
    #[command(after_help = PRECEDENCE)]
    Run(#[command(flatten)] Box<Flags>),

    /// Say what this kernel and these privileges allow, with a hint for each no
    ///
    /// Exit code 0 if `run` with the same flags would work fully, 3 if not.
    #[command(after_help = PRECEDENCE)]
    Check(#[command(flatten)] Box<Flags>),

    /// Remove every program, link, map and pin of ours, and say what was removed
    #[command(after_help = PRECEDENCE)]
    Detach(#[command(flatten)] Box<Flags>),

    /// Check a configuration file, or show what is in force
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },

    /// Print the endpoint that each path would get
    ///
    /// One line a path. Reads a list of lines `METHOD /path/{param}`, or an OpenAPI document.
    #[command(after_help = "Example:\n  sockmeter routes --routes routes.txt GET /jobs/17 /nodes/a/heartbeat")]
    Routes {
        /// The declared routes
        #[arg(long, value_name = "FILE")]
        routes: PathBuf,
        /// The request's method
        #[arg(value_name = "METHOD")]
        method: String,
        /// The request's paths
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
    },

    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sockmeter completions bash > /etc/bash_completion.d/sockmeter")]
    Completions {
        /// For which shell
        shell: Shell,
    },

    /// Print the manual page
    #[command(after_help = "Example:\n  sockmeter man run | man -l -")]
    Man {
        /// The page of one command instead of the whole
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read a file and say the first thing that is wrong with it
    ///
    /// Files that it names must be readable. Environment and flags are left out.
    Check {
        /// The configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the effective configuration as TOML, each value with its origin
    ///
    /// Of secrets only the file names are printed.
    #[command(after_help = PRECEDENCE)]
    Show(#[command(flatten)] Box<Flags>),
}
