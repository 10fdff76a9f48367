"""Write a reply as vLLM requests, one after the other: a new one where what may be drawn changes.

A *segment* is one request to vLLM. The first may hold all of a reply. Another begins where the engine has written
tokens itself (closing words), where the answer's grammar begins, and where a marker was drawn that may not come. Its
prompt is the prompt and all that was written so far, which vLLM finds in its prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dami_agent.errors import RunError
from dami_agent.integrations.vllm.grammars import BEGUN
from dami_agent.integrations.vllm.request_arguments import RequestIntensities
from dami_agent.runtime.grammar import lark_of
from dami_agent.runtime.scoring import ScoreRequest
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import TokenLogprob

__all__ = ["Drawn", "Segment", "next_segment", "scoring_parameters", "take_drawn", "token_logprob", "write_forced"]

Drawn = tuple[int, "TokenLogprob | None"]
"""A token that vLLM has drawn, and its log-prob where the request asks for one."""

_SEED_BITS = 53  # of a float64 in [0, 1)
_NEVER = -1e9  # added to a logit; JSON knows no infinity


@dataclass(slots=True, eq=False)
class Segment:
    """Holds one request to vLLM: a part of a reply.

    Attributes:
        row: the reply.
        constrained: its tokens are drawn under the answer's grammar.
        moved: it wrote a token, or drew one that may not come: the next segment is another one than this.
    """

    row: SequenceState
    constrained: bool
    moved: bool = False

    @classmethod
    def of(cls, row: SequenceState) -> Segment:
        """Begin the next segment of a reply."""
        return cls(row, constrained=row.constrained)

    def parameters(self) -> dict[str, Any]:
        """Return the fields of vLLM's ``SamplingParams`` for the rest of the reply, as JSON has them."""
        row = self.row
        temperature, top_p, top_k, min_p, penalty = row.key
        return {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": penalty,
            "seed": int(row.uniform() * 2**_SEED_BITS) if temperature else None,
            "max_tokens": row.max_tokens - row.written,
            "logprobs": row.logprobs,
            "ignore_eos": True,  # vLLM knows one checkpoint's alone
            "stop_token_ids": sorted(row.eos_ids),
            "logit_bias": dict.fromkeys(row.banned, _NEVER) or None,
            "structured_outputs": {"grammar": _grammar(row)} if self.constrained else None,
            "extra_args": RequestIntensities(
                intensity=float(row.intensity),
                prefix_intensity=float(row.prefix_intensity),
                prefix_tokens=row.prefix_length,
            ).write(),
            "detokenize": False,
        }


def scoring_parameters(request: ScoreRequest) -> dict[str, Any]:
    """Return the fields of vLLM's ``SamplingParams`` that give the log-probs of a prompt's own tokens, read at λ."""
    return {
        "temperature": 0.0,
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "ignore_eos": True,
        "detokenize": False,
        "extra_args": RequestIntensities(intensity=float(request.intensity)).write(),
    }


def take_drawn(segment: Segment, drawn: Iterable[Drawn]) -> bool:
    """Take the tokens that vLLM has drawn for a segment into its reply, as far as they belong there.

    Returns:
        Whether the segment goes on; if not, the reply has ended or goes on in another segment.
    """
    row = segment.row
    for token, logprob in drawn:
        segment.moved = True
        if row.done or token in row.banned:  # a marker: the next segment cannot draw it
            return False
        judged = row.take(token)
        if judged is None:
            return False
        row.write(*judged, logprob if judged[0] == token else None)
        wrote = write_forced(row)
        if wrote or row.done or row.constrained != segment.constrained:
            return False
    return True


def next_segment(segment: Segment) -> Segment:
    """Return the segment in which the reply goes on.

    Raises:
        RunError: vLLM ended this one without a token, and would end the next one so too.
    """
    if not segment.moved:
        raise RunError("vLLM ended a request without a token", hint="its log says why")
    return Segment.of(segment.row)


def write_forced(row: SequenceState) -> bool:
    """Write what the engine writes itself, such as the end of a thought at its cap; returns whether it wrote."""
    wrote = False
    while not row.done and (token := row.thought.forced()) is not None:
        judged = row.take(token)
        if judged is not None:
            row.write(*judged, None)
        wrote = True
    return wrote


def token_logprob(token: int, logprob: float, ranked: Iterable[tuple[int, float]], count: int | None) -> TokenLogprob:
    """Return a token's log-prob and at most ``count`` alternatives.

    Args:
        token: that was drawn.
        logprob: its natural log-probability.
        ranked: the best tokens with their log-probs, in any order; ``token`` may be one more, if it is none of them.
        count: alternatives that were asked for.
    """
    top = sorted(ranked, key=lambda each: -each[1])[: count or 0]
    return TokenLogprob(token_id=token, logprob=logprob, top=tuple(each for each in top if each[1] > -math.inf))


def _grammar(row: SequenceState) -> str:
    """Return the answer's grammar in llguidance's dialect of Lark, with the tokens of it that were written before."""
    assert row.prompt.constraint is not None
    text = lark_of(row.prompt.constraint)
    begun = row.under_grammar
    return f"{text}{BEGUN}{','.join(map(str, begun))}" if begun else text
