"""Draw third-party questions from reasoning-gym (``pip install "dami-agent[gym]"``), which grades the answers too."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dami_agent.answers import last_number
from dami_agent.errors import UsageError
from dami_agent.policy.fields import close_match
from dami_agent.types import Message

__all__ = ["GymQuestion", "gym_questions"]

_RUNS_CODE = re.compile(r"(?<![\w.])(?:eval|exec)\(|parse_expr|sympify")


@dataclass(frozen=True, slots=True, kw_only=True)
class GymQuestion:
    """Holds one question of a dataset of reasoning-gym.

    Attributes:
        dataset: its name there; the kind of question.
        entry: as the dataset made it: ``question``, ``answer`` and what its grading needs.
    """

    dataset: str
    entry: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Return the kind of question, for counts by kind."""
        return self.dataset

    @property
    def prompt(self) -> str:
        """Return what is asked."""
        return str(self.entry["question"])

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the conversation that is to be answered."""
        return (Message(role="user", content=self.prompt),)

    def grade(self, text: str) -> bool:
        """Tell whether the dataset gives full marks to what the answer tag holds, else to the reply or its number.

        What the dataset's own grading cannot read is wrong.
        """
        gym = _gym()
        score = gym.get_score_answer_fn(self.dataset)
        tagged = gym.utils.extract_answer(text)
        number = last_number(text)
        said = [tagged] if tagged is not None else [text.strip(), *([f"{number:.12g}"] if number is not None else [])]
        return any(self._full_marks(score, each) for each in said)

    def _full_marks(self, score: Callable[..., float], answer: str) -> bool:
        with suppress(Exception):  # graders raise whatever they like at what is no answer
            return math.isclose(float(score(answer=answer, entry=self.entry)), 1.0)
        return False


def gym_questions(names: Sequence[str], count: int, *, seed: int = 0) -> list[GymQuestion]:
    """Draw questions, in equal parts of each dataset.

    Args:
        names: of datasets.
        count: in all, at least one of each.
        seed: of the datasets; equal seeds give equal questions.

    Raises:
        UsageError: reasoning-gym is not installed, no dataset or an unknown one is named, or one whose grading would
            run what the model writes as Python.
    """
    gym = _gym()
    known = sorted(gym.factory.DATASETS)
    names = list(dict.fromkeys(names))
    if not names:
        raise UsageError("no dataset of reasoning-gym is named", hint="for example gsm_symbolic,chain_sum")
    for name in names:
        if name not in known:
            raise UsageError(f"reasoning-gym has no dataset {name!r}", hint=close_match(name, known))
        kind, _ = gym.factory.DATASETS[name]
        if _RUNS_CODE.search(inspect.getsource(kind.score_answer)):
            raise UsageError(f"the dataset {name!r} grades by running the reply as Python", hint="leave it out")
    found: list[GymQuestion] = []
    for place, name in enumerate(names):
        share = max(1, count // len(names) + (place < count % len(names)))
        try:
            entries = list(gym.create_dataset(name, size=share, seed=seed))
        except Exception as error:  # some need settings of their own
            raise UsageError(f"reasoning-gym cannot draw {name!r}: {type(error).__name__}: {error}") from error
        found += [GymQuestion(dataset=name, entry=entry) for entry in entries]
    return found


def _gym() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise UsageError("reasoning-gym is not installed", hint='pip install "dami-agent[gym]"') from error
    return reasoning_gym
