//! What can be typed. Help texts teach by example; they are pinned in `contracts/cli/`.

mod batch;
mod cache;
mod environment;
mod host;
mod job;
mod refresh;
mod site;
mod stack;
mod token;
mod wait;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(super) use batch::{BatchArgs, BatchVerb, Targets};
pub(super) use cache::{
    CacheVerb, Mode, Only, PurgeArgs, PurgeWhat, SetArgs, Switch, Switches, UrlArgs, WarmArgs,
};
pub(super) use environment::{ChangeArgs, CreateArgs, EnvironmentVerb, Executing, Fields};
pub(super) use host::HostVerb;
pub(super) use job::{JobListArgs, JobVerb};
pub(super) use refresh::{RefreshArgs, RefreshVerb};
pub(super) use site::SiteVerb;
pub(super) use stack::{StackVerb, StatusArg};
pub(super) use token::TokenVerb;
pub(super) use wait::{Span, Wait, WaitAllArgs, WaitArgs};

use super::output::Format;

const EXAMPLES: &str = "\
Examples:
  hostler token create --name web1         let a new host in
  hostler site create shop
  hostler env create shop/production --host web1 --domain shop.example \\
      --docroot /var/www/shop
  hostler env check shop/production        what would be wrong on the host
  hostler cache set shop/production --fastcgi on --wait
  hostler cache purge shop/production --url https://shop.example/ --wait
  hostler cache explain https://shop.example/cart
  hostler batch purge --label tier=prod --canary 1 --wait
  hostler refresh --wait                   look at the config repository now
  hostler stack list                       what should run, and whether it does
  hostler stack plan shop/web              what a sync would do, and why
  hostler job list --state failed

Environments are named `site/name` (shop/production) or by id, hosts and sites by name or id,
stacks by their path in the repository or by id.

Environment:
  HOSTLER_SERVER   the controller's address, as --server
  HOSTLER_TOKEN    the API token, where the controller asks for one
  NO_COLOR         no colours, whatever the terminal can do

Exit codes:
  0 ok          1 failure            2 usage             3 not found
  4 auth        5 refused            6 job failed        7 job cancelled
  8 pending     9 unreachable      130 detached by Ctrl-C; the job goes on";

/// Operates Hostler: hosts, sites, environments, their caches, stacks, and the jobs that change them
#[derive(Debug, Parser)]
#[command(
    name = "hostler",
    version,
    after_help = EXAMPLES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) noun: Noun,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// The controller's address
    #[arg(
        long,
        global = true,
        env = "HOSTLER_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7460",
        value_name = "URL"
    )]
    pub(super) server: String,
    /// File whose first line is the API token (else HOSTLER_TOKEN is used)
    #[arg(
        long,
        global = true,
        env = "HOSTLER_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) token_file: Option<PathBuf>,
    /// Certificates (PEM) an https server is trusted by, in place of the system's
    #[arg(
        long,
        global = true,
        env = "HOSTLER_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) ca_file: Option<PathBuf>,
    /// How data is printed: tables for people, the API's documents for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(super) output: Format,
    /// Bound on each request, in seconds
    #[arg(
        long,
        global = true,
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECS"
    )]
    pub(super) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(super) enum Noun {
    /// Hosts: machines with an agent
    #[command(subcommand, after_help = "Examples:\n  hostler host list\n  hostler host show web1")]
    Host(HostVerb),
    /// Enrolment tokens: how a new host is let in
    #[command(subcommand, after_help = "Example:\n  hostler token create --name web1")]
    Token(TokenVerb),
    /// Sites: names that group environments
    #[command(subcommand, after_help = "Example:\n  hostler site create shop")]
    Site(SiteVerb),
    /// Environments: deployments of a site, each on one host
    #[command(
        subcommand,
        after_help = "\
Examples:
  hostler env create shop/production --host web1 --domain shop.example --docroot /var/www/shop
  hostler env check shop/production"
    )]
    Env(EnvironmentVerb),
    /// Caches of an environment: switch, purge, warm, look
    #[command(
        subcommand,
        after_help = "\
Examples:
  hostler cache set shop/production --fastcgi on --wait
  hostler cache purge shop/production --url http://shop.example/ --wait"
    )]
    Cache(CacheVerb),
    /// Jobs: everything that is done on hosts
    #[command(
        subcommand,
        after_help = "Examples:\n  hostler job list --state failed\n  hostler job watch job_01kah2m3n4p5q6r7s8t9v0w1x2"
    )]
    Job(JobVerb),
    /// Batches: the same for many environments, with canaries and limits
    #[command(
        subcommand,
        after_help = "\
Examples:
  hostler batch purge --label tier=prod --dry-run
  hostler batch set --site shop --fastcgi on --canary 1 --stop-on-failure --wait
  hostler batch show batch_01kah2m3n4p5q6r7s8t9v0w1x2"
    )]
    Batch(BatchVerb),
    /// Stacks: compose projects as the config repository says, each on its hosts
    #[command(
        subcommand,
        after_help = "\
Examples:
  hostler stack list --out-of-sync
  hostler stack show shop/web
  hostler stack plan shop/web
  hostler stack sync shop/web --wait"
    )]
    Stack(StackVerb),
    /// Looks at the config repository now
    #[command(after_help = "\
A refresh reads the repository; what has changed is then synced to the hosts by itself. One runs at
a time: another one waits, and a newer one takes its place and answers for both.

Examples:
  hostler refresh --wait
  hostler refresh status
  hostler refresh list --limit 5")]
    Refresh(RefreshArgs),
    /// Prints a completion script
    #[command(after_help = "\
Examples:
  hostler completions bash > /etc/bash_completion.d/hostler
  hostler completions zsh > \"${fpath[1]}/_hostler\"
  hostler completions fish > ~/.config/fish/completions/hostler.fish")]
    Completions {
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::{Command, CommandFactory};

    use super::*;

    /// What `--help` prints for a command and for everything below it.
    fn pages(command: &Command, name: &str) -> Vec<(String, String)> {
        let line = name.split(' ').chain(["--help"]);
        let asked = Cli::command().term_width(100).try_get_matches_from(line);
        let text = asked.unwrap_err().render().to_string();
        let mut found = vec![(name.replace(' ', "-"), text)];
        for child in command.get_subcommands() {
            found.extend(pages(child, &format!("{name} {}", child.get_name())));
        }
        found
    }

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/cli")
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_the_contract() {
        let directory = directory();
        let update = std::env::var_os("UPDATE_CONTRACTS").is_some();
        if update {
            std::fs::create_dir_all(&directory).unwrap();
        }
        let mut expected: Vec<String> = Vec::new();
        for (name, text) in pages(&Cli::command(), "hostler") {
            let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
            let path = directory.join(format!("{name}.txt"));
            if update {
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                kept, text,
                "contracts/cli/{name}.txt differs from the help: run `make contracts`, look at it"
            );
            expected.push(format!("{name}.txt"));
        }
        for entry in std::fs::read_dir(&directory).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(expected.contains(&name), "contracts/cli/{name} is of no command: remove it");
        }
    }

    #[test]
    fn every_help_shows_an_example() {
        for (name, text) in pages(&Cli::command(), "hostler") {
            assert!(text.contains("Example"), "{name}: its help has no example");
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in ["hostler -o json site list", "hostler site list -o json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.output, Format::Json, "{line}");
        }
    }

    #[test]
    fn no_option_takes_a_secret() {
        fn visit(command: &Command) {
            for argument in command.get_arguments() {
                let name = argument.get_long().unwrap_or_default();
                assert!(
                    !["token", "password", "secret"].contains(&name),
                    "{} --{name}: secrets come from a file or the environment",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
