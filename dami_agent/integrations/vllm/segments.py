"""Write a reply as vLLM requests, one after the other: a new one where what may be drawn changes.

A *segment* is one request to vLLM. The first may hold all of a reply. Another begins where the engine has written
tokens itself (closing words), where the answer's grammar begins, and where a marker was drawn that may not come. Its
prompt is the prompt and all that was written so far, which vLLM finds in its prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dami_agent.integrations.vllm.grammars import BEGUN
from dami_agent.integrations.vllm.request_arguments import RequestIntensities
from dami_agent.runtime.grammar import lark_of
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import TokenLogprob

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import CompletionOutput

__all__ = ["Segment", "take_drawn", "write_forced"]

_SEED_BITS = 53  # of a float64 in [0, 1)


@dataclass(slots=True, eq=False)
class Segment:
    """Holds one request to vLLM: a part of a reply.

    Attributes:
        row: the reply.
        constrained: its tokens are drawn under the answer's grammar.
        taken: tokens of it that are part of the reply.
    """

    row: SequenceState
    constrained: bool
    taken: int = 0

    @classmethod
    def of(cls, row: SequenceState) -> Segment:
        """Begin the next segment of a reply."""
        return cls(row, constrained=row.constrained)

    @property
    def first(self) -> bool:
        """Return whether it is the first of its reply."""
        return self.row.written == 0

    def prompt(self) -> dict[str, Any]:
        """Return vLLM's prompt: all tokens so far."""
        return {"prompt_token_ids": list(self.row.tokens)}

    def sampling(self) -> SamplingParams:
        """Return vLLM's parameters for the rest of the reply; vLLM must be installed."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        row = self.row
        temperature, top_p, top_k, min_p, penalty = row.key
        return SamplingParams(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=penalty,
            seed=int(row.uniform() * 2**_SEED_BITS) if temperature else None,
            max_tokens=row.max_tokens - row.written,
            logprobs=row.logprobs,
            ignore_eos=True,  # vLLM knows one checkpoint's alone
            stop_token_ids=sorted(row.eos_ids),
            logit_bias=dict.fromkeys(row.banned, -math.inf) or None,
            structured_outputs=StructuredOutputsParams(grammar=_grammar(row)) if self.constrained else None,
            extra_args=RequestIntensities(
                intensity=float(row.intensity),
                prefix_intensity=float(row.prefix_intensity),
                prefix_tokens=row.prefix_length,
            ).write(),
            output_kind=RequestOutputKind.DELTA,
            detokenize=False,
        )


def take_drawn(segment: Segment, drawn: CompletionOutput) -> bool:
    """Take the tokens that vLLM has drawn for a segment into its reply, as far as they belong there.

    Args:
        segment: the segment.
        drawn: new tokens, and their log-probs where the request asks for some.

    Returns:
        Whether the segment goes on; if not, the reply has ended or goes on in another segment.
    """
    row = segment.row
    logprobs: Sequence[Mapping[int, Any] | None] = drawn.logprobs or [None] * len(drawn.token_ids)
    for token, alternatives in zip(drawn.token_ids, logprobs, strict=True):
        if row.done or token in row.banned:  # a marker: the next segment cannot draw it
            return False
        judged = row.take(token)
        if judged is None:
            return False
        row.write(*judged, _logprob(judged[0], alternatives, row.logprobs))
        segment.taken += 1
        wrote = write_forced(row)
        if wrote or row.done or row.constrained != segment.constrained:
            return False
    return True


def write_forced(row: SequenceState) -> bool:
    """Write what the engine writes itself, such as the end of a thought at its cap; returns whether it wrote."""
    wrote = False
    while not row.done and (token := row.thought.forced()) is not None:
        judged = row.take(token)
        if judged is not None:
            row.write(*judged, None)
        wrote = True
    return wrote


def _logprob(token: int, alternatives: Mapping[int, Any] | None, count: int | None) -> TokenLogprob | None:
    """Return a token's log-prob and ``count`` alternatives, the best first; None where vLLM gave none of it."""
    if alternatives is None or token not in alternatives:
        return None
    best = sorted(alternatives.items(), key=lambda each: each[1].rank)[: count or 0]
    return TokenLogprob(
        token_id=token,
        logprob=float(alternatives[token].logprob),
        top=tuple((id_, float(each.logprob)) for id_, each in best if each.logprob > -math.inf),
    )


def _grammar(row: SequenceState) -> str:
    """Return the answer's grammar in llguidance's dialect of Lark, with the tokens of it that were written before."""
    assert row.prompt.constraint is not None
    text = lark_of(row.prompt.constraint)
    begun = row.under_grammar
    return f"{text}{BEGUN}{','.join(map(str, begun))}" if begun else text
