"""Run ``dami serve``: vLLM's API server over a pair, for agents and for OpenAI's clients."""

from __future__ import annotations

from typing import Annotated

import typer

from dami_agent.cli.options import InstructOption, ThinkingOption


def serve(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM FLAGS]", help="Further flags of `vllm serve`, after --.", show_default=False),
    ] = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision of both.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="Key that clients must bear (default: none).", envvar="DAMI_API_KEY")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")] = "auto",
    context_length: Annotated[
        int | None, typer.Option(help="Tokens of prompt and reply together (default: what fits).", min=16)
    ] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Requests decoded together at most.", min=1)] = None,
) -> None:
    """Serve a pair by vLLM, a λ for every request: to ChatDAMI(base_url=...) and to OpenAI's clients."""
    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.checkpoints.pair import both_or_neither
    from dami_agent.integrations.vllm.server import serve as run

    both_or_neither(instruct, thinking, "--instruct and --thinking")
    run(
        CheckpointPair.named(instruct, thinking, revision=revision),
        host=host,
        port=port,
        api_key=api_key,
        given=given or (),
        dtype=dtype,
        context_length=context_length,
        max_batch_size=max_batch_size,
    )
