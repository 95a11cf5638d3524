"""completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..errors import BadConfig
from .main import examples, main

SHELLS = ("bash", "zsh", "fish")


@main.command(
    epilog=examples(
        'eval "$(scrdit completion bash)"                        # in ~/.bashrc',
        'eval "$(scrdit completion zsh)"                         # in ~/.zshrc, after compinit',
        "scrdit completion fish > ~/.config/fish/completions/scrdit.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what completes commands, options and their values in SHELL; its start-up file reads it."""
    kind = get_completion_class(shell)
    if kind is None:
        raise BadConfig(f"this version of click completes nothing in {shell}; choose another of {', '.join(SHELLS)}")
    click.echo(kind(main, {}, "scrdit", "_SCRDIT_COMPLETE").source())
