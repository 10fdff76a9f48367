"""Run ``dami pair``: show the card of the built-in pair."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from dami_agent.cli.output import print_json, stdout
from dami_agent.errors import CheckpointNotFound


def pair(
    as_json: Annotated[bool, typer.Option("--json", help="Print name, fingerprint and folders as JSON.")] = False,
) -> None:
    """Show the built-in pair: what it is, what it was trained on, what it can and cannot do."""
    from dami_agent.checkpoints import CheckpointPair

    opened = CheckpointPair.builtin()
    if as_json:
        sides = {"instruct": str(opened.instruct.path), "thinking": str(opened.thinking.path)}
        print_json({"name": opened.name, "fingerprint": opened.fingerprint, **sides})
        return
    card = opened.card_path
    if card is None:
        raise CheckpointNotFound("the model card of the built-in pair is missing", hint="reinstall dami-agent")
    from rich.markdown import Markdown

    console = stdout()
    text = re.sub(r"<!--.*?-->\n?", "", card.read_text(encoding="utf-8"), flags=re.DOTALL)  # where figures are put in
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text, nl=False)
