"""``evergreen-groups completion``."""

from __future__ import annotations

import click

from evergreen_groups.cli import SHELLS, completion_script


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script by which bash, zsh or fish completes commands, options and their values.

    The Debian package has it in place already. Elsewhere, for one user, in directories made before:

    \b
      bash  evergreen-groups completion bash \\
                > ~/.local/share/bash-completion/completions/evergreen-groups
      zsh   evergreen-groups completion zsh > ~/.zfunc/_evergreen-groups
            with fpath+=~/.zfunc before compinit in ~/.zshrc
      fish  evergreen-groups completion fish \\
                > ~/.config/fish/completions/evergreen-groups.fish
    """
    click.echo(completion_script(shell), nl=False)
