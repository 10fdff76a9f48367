"""Declare options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class By(str, Enum):
    """Names what calls can be added up by."""

    name = "name"
    tag = "tag"
    user = "user"
    day = "day"
    node = "node"
    tool = "tool"


LedgerOption = Annotated[
    str | None, typer.Option("--ledger", help="Path or URL of the ledger (default: DAMI_LEDGER, else your own file).")
]
RunOption = Annotated[
    str | None, typer.Option("--run", help="Only this run: its id, its parent's or the root run's, or how that begins.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Only calls with this name: LangChain's run_name, or of a trace."),
]
TagOption = Annotated[str | None, typer.Option("--tag", help="Only calls with this LangChain tag.")]
UserOption = Annotated[
    str | None, typer.Option("--user", help="Only calls of this user: user_id (or user) in the call's metadata.")
]
ToolOption = Annotated[str | None, typer.Option("--tool", help="Only calls that called this tool or read its result.")]
NodeOption = Annotated[str | None, typer.Option("--node", help="Only calls made in this LangGraph node.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only calls since then: 90s, 30m, 2h, 7d ago, or a date.")
]
ByOption = Annotated[By | None, typer.Option("--by", help="Add calls up by this instead of listing them.")]
FrontierOption = Annotated[
    Path | None,
    typer.Option(
        "--frontier",
        help="Frontier file (`dami sweep -o`) to estimate token savings with (default: the built-in pair's).",
    ),
]
InstructOption = Annotated[
    str | None, typer.Option("--instruct", help="Instruct checkpoint: folder or hub id (default: the built-in pair).")
]
ThinkingOption = Annotated[str | None, typer.Option("--thinking", help="Thinking checkpoint: folder or hub id.")]
TemperatureOption = Annotated[float, typer.Option(help="Sampling temperature at every λ; 0 is greedy.", min=0)]
MaxTokensOption = Annotated[int, typer.Option(help="Output tokens of a reply at most, with its thought.", min=2)]
BatchOption = Annotated[int | None, typer.Option(help="Sequences to decode together.", min=1)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
AlsoOutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.")]
WorkersOption = Annotated[int, typer.Option(help="Worker processes, each with its own copy of the weights.", min=1)]
