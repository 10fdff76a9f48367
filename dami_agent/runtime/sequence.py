"""Track one request inside the engine: what it has written, may write next, and when it is done. No tensors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from dami_agent.errors import InvalidRequest, OutputInvalid
from dami_agent.runtime.grammar import Matcher
from dami_agent.runtime.job import LocalJob
from dami_agent.runtime.repetition import LoopDetector
from dami_agent.runtime.sampling import RandomStream, WarperKey
from dami_agent.runtime.stop_strings import StopStrings
from dami_agent.runtime.thought import Thought
from dami_agent.types import FinishReason, Intensity, Part, Prompt, TokenEvent, TokenLogprob

__all__ = ["SequenceState"]


@dataclass(kw_only=True, eq=False, slots=True)
class SequenceState:
    """Hold the state of one sequence from submission to its end.

    Owned by the submitter until queued, by the worker after.

    Attributes:
        max_tokens: output tokens, bounded by the context window.
        logprobs: alternatives wanted beside each token, or None.
        matcher: the answer's grammar.
        forbid_tool_call: id masked inside the thought, or None.
        loop: watches the answer for a repetition that has run away.
        prefix_intensity: λ that the prompt is read at but for its last token; that of the reply where it is exact.
        tokens: prompt and output so far.
        kept: whether what was computed of it has been kept for others.
        under_grammar: tokens of the answer that its grammar has taken.
    """

    prompt: Prompt
    intensity: Intensity
    prefix_intensity: Intensity
    job: LocalJob
    thought: Thought
    eos_ids: Collection[int]
    max_tokens: int
    key: WarperKey
    stream: RandomStream
    logprobs: int | None = None
    matcher: Matcher | None = None
    forbid_tool_call: int | None = None
    stops: StopStrings | None = None
    loop: LoopDetector | None = None
    after_close_ids: tuple[int, ...] = ()
    tokens: list[int]
    written: int = 0
    kept: bool = False
    under_grammar: list[int] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Return whether all of its tokens are read at one λ."""
        return self.prefix_intensity == self.intensity

    @property
    def prefix_length(self) -> int:
        """Return how many of its first tokens are read at another λ than the rest; 0 where all are read at one."""
        return 0 if self.exact else len(self.prompt.token_ids) - 1

    @property
    def reusable(self) -> int:
        """Return how many of the tokens so far were read at ``prefix_intensity``, as others may read theirs."""
        return len(self.tokens) if self.exact else self.prefix_length

    @property
    def done(self) -> bool:
        """Return whether the job has ended (also from outside: cancelled, expired)."""
        return self.job.done

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        self.job.fail(error)

    @property
    def constrained(self) -> bool:
        """Return whether the next token is one of the answer and under a grammar."""
        return self.matcher is not None and not self.thought.open and self.thought.forced() is None

    @property
    def banned(self) -> tuple[int, ...]:
        """Return the tokens that the model may not draw now, whatever its scores say."""
        if self.thought.open:
            return () if self.forbid_tool_call is None else (self.forbid_tool_call,)
        return self.thought.banned

    def uniform(self) -> float:
        """Return the random number of the next output token."""
        return 0.0 if self.key[0] == 0.0 else self.stream[self.written]

    def replay(self) -> None:
        """Write ``prompt.reply_ids``, decoded before, as output.

        Raises:
            InvalidRequest: when they break the answer's grammar or hold an end of sequence.
        """
        closing: list[int] = []
        was_open = self.thought.open
        for token, part in self.thought.replay(self.prompt.reply_ids):
            if part == "control":
                closing = list(self.after_close_ids) if was_open and not self.thought.open else []
            elif part == "answer":
                if token in self.eos_ids:
                    raise InvalidRequest(
                        f"reply_ids hold the end-of-sequence token {token}", hint="a finished reply cannot be continued"
                    )
                if not self._under_grammar(token):
                    # An engine that closed the thought wrote these for the model; the grammar begins after them.
                    if not closing or closing.pop(0) != token:
                        raise InvalidRequest(
                            f"reply_ids break the constraint at token {token}",
                            hint="continue a probe under the constraint it was decoded with, or leave it out",
                        )
                    part = "control"
                else:
                    closing = []
            was_open = self.thought.open
            self._write(token, part, None)
            if self.job.done:
                return

    def accepts(self, token: int) -> bool:
        """Return whether the grammar, if the next token is under one, will take ``token``."""
        return not self.constrained or self.matcher is None or token in self.eos_ids or self.matcher.allows(token)

    def take(self, token: int) -> tuple[int, Part] | None:
        """Let the thought judge the chosen token; None when it ends the reply, else the token to write and its part."""
        if not self.thought.open and self.thought.forced() is None and token in self.eos_ids:
            self.job.finish("stop")
            return None
        return self.thought.take(token)

    def write(self, token: int, part: Part, logprob: TokenLogprob | None) -> None:
        """Put out one token and see whether that was the last."""
        if part == "answer" and not self._under_grammar(token):
            self.job.fail(OutputInvalid(f"token {token} is not what the grammar allows"))
            return
        self._write(token, part, logprob)

    def _under_grammar(self, token: int) -> bool:
        """Have the grammar, if there is one, take a token of the answer; False where it refuses it."""
        if self.matcher is None:
            return True
        if not self.matcher.accept(token):
            return False
        self.under_grammar.append(token)
        return True

    def _write(self, token: int, part: Part, logprob: TokenLogprob | None) -> None:
        self.tokens.append(token)
        self.written += 1
        self.job.publish(TokenEvent(token_id=token, part=part, logprob=logprob), self.thought.closed_by)
        stop_string = self.stops.push(token) if self.stops is not None and part == "answer" else None
        if stop_string is not None:
            self.job.finish("stop", stop_string)
        elif (reason := self._out_of_room(token, part)) is not None:
            self.job.finish(reason)

    def _out_of_room(self, token: int, part: Part) -> FinishReason | None:
        ran_away = part == "answer" and self.loop is not None and self.loop.push(token)
        return "length" if ran_away or self.written >= self.max_tokens else None
