//! `leyden completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError, Context};

/// Print what a shell needs to complete `leyden`'s commands and options.
#[derive(Debug, Args)]
#[command(after_help = "Install it once:\n  \
    leyden completions bash  > ~/.local/share/bash-completion/completions/leyden\n  \
    leyden completions zsh  > \"${fpath[1]}/_leyden\"\n  \
    leyden completions fish  > ~/.config/fish/completions/leyden.fish")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

impl Completions {
    pub fn run(self, context: &Context) -> Result<(), CliError> {
        context.script(&script(self.shell))
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "leyden", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }
}
