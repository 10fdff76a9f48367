"""Run ``dami chat``: talk to a pair and see what each reply cost. The answer goes to stdout, all else to stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dami_agent.cli.options import InstructOption, ThinkingOption
from dami_agent.cli.output import LINES, visible
from dami_agent.errors import DamiError
from dami_agent.types import Intensity, ModuleIntensity

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage

    from dami_agent import ChatDAMI

HELP_HINT = "/help lists the commands, Ctrl-C stops a reply, Ctrl-D ends the chat"
HELP = """\
/help   show this
/clear  start a new conversation
/exit   end the chat; so do /quit and Ctrl-D
Ctrl-C  stop the reply; the chat goes on"""


def chat(
    message: Annotated[
        list[str] | None, typer.Argument(help="Message to send (default: stdin, or a conversation on a terminal).")
    ] = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    intensity: Annotated[
        str | None,
        typer.Option(
            help="λ from 0 to 1, one per module (ffn=0.9,attention=0.5,other=0.5), or auto.", show_default="auto"
        ),
    ] = None,
    effort: Annotated[str | None, typer.Option(help="none, minimal, low, medium, high or max.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Output tokens at most, thought and answer together.", min=1)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature (default: the checkpoints' own).", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for sampling; the same seed gives the same reply.")] = None,
    thought: Annotated[bool, typer.Option("--thought/--no-thought", help="Show the thought, dimmed.")] = True,
) -> None:
    """Chat with a pair: see the reply as it is decoded, then λ, why it was chosen, and the tokens it took."""
    given = _intensity(intensity)
    model = _model(
        instruct=instruct,
        thinking=thinking,
        weights_mode="merged" if isinstance(given, ModuleIntensity) else None,  # they alone run it
        reasoning_intensity=given,
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
    if text is None and not is_interactive():
        text = sys.stdin.read()
    if text is not None:
        if not text.strip():
            raise typer.BadParameter("the message is empty", param_hint="MESSAGE")
        _reply(model, [*history, HumanMessage(text)], thought)
        return
    typer.secho(f"{model.pipeline().engine.info.model} · {HELP_HINT}", dim=True, err=True)
    while (line := _ask()) is not None:
        if line.startswith("/"):
            if _obey(line, history):
                return
            continue
        reply = _reply_or_stop(model, [*history, HumanMessage(line)], thought)
        if reply is not None:
            history += [HumanMessage(line), reply]


def is_interactive() -> bool:
    """Tell whether a person is typing."""
    return sys.stdin.isatty()


def _intensity(intensity: str | None) -> float | str | None:
    if intensity is None or intensity == "auto":
        return intensity
    if "=" in intensity:
        return Intensity(intensity)
    try:
        return float(intensity)
    except ValueError:
        raise typer.BadParameter(
            f"{intensity!r} is neither a number from 0 to 1, a λ per module nor auto", param_hint="--intensity"
        ) from None


def _model(**settings: Any) -> ChatDAMI:
    """Make the chat model; an error of ours comes out of pydantic's wrapping."""
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
    """Read the next line that is not empty; None at the end of input (Ctrl-D)."""
    with suppress(ImportError):  # lines can be edited and called back
        import readline  # noqa: F401
    while True:
        try:
            line = input("› ").strip()
        except EOFError:
            typer.echo(err=True)
            return None
        except KeyboardInterrupt:
            typer.secho("\nCtrl-D or /exit ends the chat", dim=True, err=True)
            continue
        if line:
            return line


def _obey(line: str, history: list[BaseMessage]) -> bool:
    """Carry out a command; True if it ends the chat."""
    if line in ("/exit", "/quit"):
        return True
    if line == "/clear":
        history[:] = [message for message in history if message.type == "system"]
        typer.secho("the conversation starts anew", dim=True, err=True)
    elif line == "/help":
        typer.secho(HELP, dim=True, err=True)
    else:
        typer.secho(f"unknown command {visible(line)}; /help lists the commands", dim=True, err=True)
    return False


def _reply_or_stop(model: ChatDAMI, messages: list[BaseMessage], thought: bool) -> AIMessageChunk | None:
    """Show one reply; None if Ctrl-C stopped it or it failed, which is said: the chat goes on without that question."""
    try:
        return _reply(model, messages, thought)
    except KeyboardInterrupt:
        typer.secho("stopped; that question is left out of the conversation", dim=True, err=True)
    except DamiError as error:
        typer.secho(f"error: {visible(str(error), keep=LINES)}", fg="red", err=True)
    return None


def _reply(model: ChatDAMI, messages: list[BaseMessage], thought: bool) -> AIMessageChunk:
    """Stream one reply: the thought to stderr, the answer to stdout."""
    whole: AIMessageChunk | None = None
    thinking, shown = False, sys.stdout.isatty()  # a pipe gets the answer as it is
    try:
        for chunk in model.stream(messages):
            whole = chunk if whole is None else whole + chunk
            for block in chunk.content_blocks:
                if block["type"] == "reasoning" and thought:
                    typer.secho(visible(block.get("reasoning", ""), keep=LINES), dim=True, nl=False, err=True)
                    thinking = True
                elif block["type"] == "text" and block["text"]:
                    if thinking:
                        typer.echo("\n", err=True)
                        thinking = False
                    typer.echo(visible(block["text"], keep=LINES) if shown else block["text"], nl=False)
            sys.stdout.flush()
    finally:
        typer.echo()
    assert whole is not None
    typer.secho(visible(_footer(whole)), dim=True, err=True)
    return whole


def _footer(reply: AIMessageChunk) -> str:
    """Format ``λ 0.5 (estimated 0.43) · 12 prompt, 30 thought (8 of them to estimate), 5 answer tokens · 0.8 s``."""
    metadata = reply.response_metadata
    usage: Any = reply.usage_metadata or {}
    output = usage.get("output_tokens", 0)
    reasoning = usage.get("output_token_details", {}).get("reasoning", 0)
    probe = f" ({metadata['probe_tokens']} of them to estimate)" if metadata["probe_tokens"] else ""
    counts = f"{usage.get('input_tokens', 0)} prompt, {reasoning} thought{probe}, {output - reasoning} answer tokens"
    seconds = metadata["seconds"]
    cut = " · cut off by a token cap" if metadata.get("finish_reason") == "length" else ""
    at = metadata.get("intensity_modules") or f"{metadata['intensity']:g}"
    why = f"λ {at} ({metadata['reason']})"
    return f"{why} · {counts} · {seconds:.1f} s · {output / max(seconds, 1e-9):.0f} tokens/s{cut}"
