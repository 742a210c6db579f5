"""``saccade completion``: the script by which a shell completes what is typed."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_PLACES = {
    "bash": "echo 'eval \"$(saccade completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(saccade completion zsh)\"' >> ~/.zshrc    # below the line that runs compinit",
    "fish": "saccade completion fish > ~/.config/fish/completions/saccade.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_PLACES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and paths of `saccade` when Tab is pressed in SHELL.

    Type the line of your shell once, then open a new terminal:

    \b
        echo 'eval "$(saccade completion bash)"' >> ~/.bashrc
        echo 'eval "$(saccade completion zsh)"' >> ~/.zshrc    # below the line that runs compinit
        saccade completion fish > ~/.config/fish/completions/saccade.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"expected a shell that click completes in, found {shell}.")
    click.echo(kind(context.find_root().command, {}, "saccade", "_SACCADE_COMPLETE").source())
    click.echo(f"# Where this belongs; type it once, then open a new terminal:\n#   {_PLACES[shell]}")
