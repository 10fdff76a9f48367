"""``dami chat``: talk to a pair and see what each reply cost. The answer goes to stdout, all else to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.errors import DamiError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage

    from dami_agent import ChatDAMI


def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="What to say; left out: stdin, or a conversation on a terminal.")
    ] = None,
    instruct: Annotated[str | None, typer.Option(help="Instruct checkpoint; left out: the built-in pair.")] = None,
    thinking: Annotated[str | None, typer.Option(help="Thinking checkpoint: folder or hub id.")] = None,
    intensity: Annotated[str | None, typer.Option(help="λ from 0 to 1, or auto.", show_default="auto")] = None,
    effort: Annotated[str | None, typer.Option(help="none, minimal, low, medium, high or max.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Thought and answer together.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="Left out: the checkpoints' own.", min=0)] = None,
    seed: Annotated[int | None, typer.Option(help="Of the random stream; the same seed gives the same reply.")] = None,
    thought: Annotated[bool, typer.Option("--thought/--no-thought", help="Show the thought, dimmed.")] = True,
) -> None:
    """Chat: the reply as it is decoded, then λ, why it was chosen, and the tokens it took."""
    model = _model(
        instruct=instruct,
        thinking=thinking,
        reasoning_intensity=_number(intensity),
        reasoning_effort=effort,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
    )
    from langchain_core.messages import HumanMessage, SystemMessage
    from rich.console import Console

    with Console(stderr=True).status("loading the pair …"):  # seen on a terminal only
        model.pipeline()
    history: list[BaseMessage] = [SystemMessage(system)] if system else []
    text = " ".join(message) if message else None
    if text is None and not _talks():
        text = sys.stdin.read()
    if text is not None:
        if not text.strip():
            raise typer.BadParameter("there is no message", param_hint="MESSAGE")
        _reply(model, [*history, HumanMessage(text)], thought)
        return
    while (line := _ask()) is not None:
        history.append(HumanMessage(line))
        history.append(_reply(model, history, thought))


def _talks() -> bool:
    """Whether a person is typing."""
    return sys.stdin.isatty()


def _number(intensity: str | None) -> float | str | None:
    if intensity in (None, "auto"):
        return intensity
    try:
        return float(intensity)
    except ValueError:
        raise typer.BadParameter(
            f"{intensity!r} is neither a number from 0 to 1 nor auto", param_hint="--intensity"
        ) from None


def _model(**settings: Any) -> ChatDAMI:
    """The chat model; an error of ours comes out of pydantic's wrapping."""
    from pydantic import ValidationError

    from dami_agent import ChatDAMI

    try:
        return ChatDAMI(**{name: value for name, value in settings.items() if value is not None})
    except ValidationError as wrapped:
        for problem in wrapped.errors():
            error = problem.get("ctx", {}).get("error")
            if isinstance(error, DamiError):
                raise error from None
        raise


def _ask() -> str | None:
    """The next line that is not empty; None at the end of input."""
    while True:
        try:
            line = input("› ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo(err=True)
            return None
        if line:
            return line


def _reply(model: ChatDAMI, messages: list[BaseMessage], thought: bool) -> AIMessageChunk:
    """Stream one reply: the thought to stderr, the answer to stdout."""
    whole: AIMessageChunk | None = None
    thinking = False
    try:
        for chunk in model.stream(messages):
            whole = chunk if whole is None else whole + chunk
            for block in chunk.content_blocks:
                if block["type"] == "reasoning" and thought:
                    typer.secho(block.get("reasoning", ""), dim=True, nl=False, err=True)
                    thinking = True
                elif block["type"] == "text" and block["text"]:
                    if thinking:
                        typer.echo("\n", err=True)
                        thinking = False
                    typer.echo(block["text"], nl=False)
            sys.stdout.flush()
    finally:
        typer.echo()
    assert whole is not None
    typer.secho(_footer(whole), dim=True, err=True)
    return whole


def _footer(reply: AIMessageChunk) -> str:
    """``λ 0.5 (estimated 0.43) · 12 prompt, 30 thought (8 of them to estimate), 5 answer tokens · 0.8 s · …``."""
    metadata = reply.response_metadata
    usage: Any = reply.usage_metadata or {}
    output = usage.get("output_tokens", 0)
    reasoning = usage.get("output_token_details", {}).get("reasoning", 0)
    probe = f" ({metadata['probe_tokens']} of them to estimate)" if metadata["probe_tokens"] else ""
    counts = f"{usage.get('input_tokens', 0)} prompt, {reasoning} thought{probe}, {output - reasoning} answer tokens"
    seconds = metadata["seconds"]
    cut = " · cut off by a token cap" if metadata.get("finish_reason") == "length" else ""
    why = f"λ {metadata['intensity']:g} ({metadata['reason']})"
    return f"{why} · {counts} · {seconds:.1f} s · {output / max(seconds, 1e-9):.0f} tokens/s{cut}"
