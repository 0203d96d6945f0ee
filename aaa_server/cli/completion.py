"""`sky-aaa completion`: what the Tab key knows."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    bash: add  eval "$(sky-aaa completion bash)"  to ~/.bashrc; zsh likewise to ~/.zshrc.
    fish: sky-aaa completion fish > ~/.config/fish/completions/sky-aaa.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root()
    script = found(root.command, {}, "sky-aaa", "_SKY_AAA_COMPLETE")
    click.echo(script.source())
