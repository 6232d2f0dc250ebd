"""``evergreen-groups help``."""

from __future__ import annotations

import click

from evergreen_groups import cli


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show what COMMAND does, and its options. Without COMMAND, list the commands."""
    shown = context.find_root()
    for word in words:
        group = shown.command
        if not isinstance(group, click.Group):
            break
        name, command, _rest = group.resolve_command(shown, [word])
        if command is not None:
            shown = click.Context(command, info_name=name, parent=shown)
    click.echo(shown.get_help())


@click.command("completion")
@click.argument("shell", type=click.Choice(cli.SHELLS))
def completion_command(shell: str) -> None:
    """Print a completion script for bash, zsh or fish.

    The Debian package installs it. Elsewhere, for one user, create the directories first:

    \b
      bash  evergreen-groups completion bash \\
                > ~/.local/share/bash-completion/completions/evergreen-groups
      zsh   evergreen-groups completion zsh > ~/.zfunc/_evergreen-groups
            with fpath+=~/.zfunc before compinit in ~/.zshrc
      fish  evergreen-groups completion fish \\
                > ~/.config/fish/completions/evergreen-groups.fish
    """
    click.echo(cli.completion_script(shell), nl=False)
