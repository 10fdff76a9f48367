"""Quick measurements of a pair along its path, for development: questions, tool calls, agent tasks, confidence.

The published numbers come from the project's own engine (`dami sweep`, `dami bench`); these run in a minute or two.
Nothing here constrains decoding: a call counts only if the model wrote it, whole and exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tokenizers import Tokenizer

from builtin_pair.training.render import Call, Dialogue, Template, Turn, prompt
from builtin_pair.training.sampler import Sampled, State, sample, score
from builtin_pair.training.tokenizer import END, STOP
from dami_agent.tasks.model import AgentTask, Question
from dami_agent.tasks.questions import LEVELS

Policy = Mapping[str, Any]

LIMIT = 2048
"""Tokens of a reply at most, as in `dami sweep`: three times the longest thought in training."""


@dataclass
class Reply:
    """A parsed generation: thought, answer text (without calls), calls, tokens of the thought."""

    sampled: Sampled
    thought: str
    text: str
    calls: tuple[Call, ...]
    reasoning: int
    closed: bool


def _call(body: str) -> Call:
    try:
        parsed = json.loads(body.split("</tool_call>")[0])
        return str(parsed["name"]), dict(parsed["arguments"])
    except (ValueError, KeyError, TypeError):
        return "", {}


class Bench:
    """Generates with a pair's tokenizer and parses what comes back."""

    def __init__(self, tokenizer: Tokenizer, *, limit: int = LIMIT) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.stops: list[int] = [int(tokenizer.token_to_id(text) or 0) for text in (STOP, END)]
        self.close = tokenizer.token_to_id("</think>")

    def encode(self, dialogue: Dialogue) -> list[int]:
        """The prompt's token ids."""
        return list(self.tokenizer.encode(prompt(dialogue), add_special_tokens=False).ids)

    def parse(self, sampled: Sampled, template: Template) -> Reply:
        """Split a generation at `</think>`; read every `<tool_call>` after it. A broken call has the name ""."""
        ids = [token for token in sampled.ids if token not in self.stops]
        cut = ids.index(self.close) + 1 if self.close in ids else (len(ids) if template == "thinking" else 0)
        thought = self.tokenizer.decode(ids[:cut], skip_special_tokens=False).removesuffix("</think>").strip()
        text = self.tokenizer.decode(ids[cut:], skip_special_tokens=False).strip()
        text, *bodies = text.split("<tool_call>")
        closed = sampled.finished and (template == "instruct" or self.close in ids)
        return Reply(sampled, thought, text.strip(), tuple(map(_call, bodies)), max(cut - 1, 0), closed)

    def replies(
        self,
        state: State,
        dialogues: Sequence[Dialogue],
        *,
        temperature: float = 0.7,
        seed: int = 0,
        limit: int | None = None,
    ) -> list[Reply]:
        """Generate for dialogues that share a template."""
        prompts = [self.encode(dialogue) for dialogue in dialogues]
        found = sample(state, prompts, stops=self.stops, limit=limit or self.limit, temperature=temperature, seed=seed)
        return [self.parse(each, dialogue.template) for each, dialogue in zip(found, dialogues, strict=True)]


def ask(item: Question, template: Template) -> Dialogue:
    """A question as a dialogue."""
    return Dialogue([Turn("user", item.prompt)], template=template)


def on_questions(
    bench: Bench,
    state: State,
    template: Template,
    items: Sequence[Question],
    *,
    seed: int = 0,
    temperature: float = 0.7,
) -> dict[str, Any]:
    """Accuracy, output tokens, those of outputs that think, shares that think and that finish; by level and family."""
    replies = bench.replies(state, [ask(item, template) for item in items], seed=seed, temperature=temperature)
    right = [item.grade(reply.text) and reply.closed for item, reply in zip(items, replies, strict=True)]
    tokens = [len(reply.sampled.ids) for reply in replies]
    thinking = [count for count, reply in zip(tokens, replies, strict=True) if reply.thought]
    by_level = {}
    for level in LEVELS:
        rows = [i for i, item in enumerate(items) if item.level == level]
        if rows:
            by_level[level] = (round(fmean(right[i] for i in rows), 3), round(fmean(tokens[i] for i in rows), 1))
    return {
        "accuracy": round(fmean(right), 3),
        "tokens": round(fmean(tokens), 1),
        "tokens_thinking": round(fmean(thinking), 1) if thinking else None,
        "thinks": round(len(thinking) / len(replies), 3),
        "finished": round(fmean(reply.closed for reply in replies), 3),
        "levels": by_level,
        "families": {
            family: round(fmean(right[i] for i, item in enumerate(items) if item.family == family), 3)
            for family in sorted({item.family for item in items})
        },
    }


def one_call(
    bench: Bench, state: State, template: Template, tasks: Sequence[AgentTask], *, temperature: float = 0.0
) -> dict[str, float]:
    """First turn of each task: share whose tools are right, share exact as a whole (several calls in any order)."""
    dialogues = [
        Dialogue([Turn("user", task.prompt)], [tool.spec for tool in task.tools], template=template) for task in tasks
    ]
    replies = bench.replies(state, dialogues, temperature=temperature)
    wanted = [[(call.name, dict(call.arguments)) for call in task.rounds[0]] for task in tasks]
    found = [[(name, dict(arguments)) for name, arguments in reply.calls] for reply in replies]
    names = [sorted(name for name, _ in f) == sorted(name for name, _ in w) for f, w in zip(found, wanted, strict=True)]
    exact = [len(f) == len(w) and all(each in f for each in w) for f, w in zip(found, wanted, strict=True)]
    return {"name": round(fmean(names), 3), "exact": round(fmean(exact), 3)}


@dataclass
class Episode:
    """One agent task being solved."""

    task: AgentTask
    turns: list[Turn]
    tokens: int = 0
    steps: int = 0
    text: str | None = None
    trace: list[str] = field(default_factory=list)


def run_agents(
    bench: Bench, pick: Policy, tasks: Sequence[AgentTask], *, seed: int = 0, keep_thoughts: bool = True, most: int = 9
) -> dict[str, Any]:
    """Solve tasks with one policy: `{"state", "template"}`, or with `probe` and `threshold` for a confidence cascade.

    The cascade decodes at most 32 tokens with `probe` (lambda 0), scores them with `scorer` under the same prompt, and
    keeps them if the least likely token is likelier than `threshold`; all tokens count.
    """
    episodes = [Episode(task, [Turn("user", task.prompt)]) for task in tasks]
    deep = 0
    for step in range(most):
        open_ = [episode for episode in episodes if episode.text is None]
        if not open_:
            break
        deep += _step(bench, pick, open_, seed + step, keep_thoughts)
    right = [episode.text is not None and episode.task.grade(episode.text) for episode in episodes]
    groups: dict[str, dict[str, list[bool]]] = {"kind": {}, "name": {}, "turns": {}}
    for episode, good in zip(episodes, right, strict=True):
        task = episode.task
        for group, key in (("kind", task.kind), ("name", task.name), ("turns", str(task.steps))):
            groups[group].setdefault(key, []).append(good)
    return {
        "solved": round(fmean(right), 3),
        **{kind: round(fmean(rows), 3) for kind, rows in groups["kind"].items()},
        "tokens": round(fmean(episode.tokens for episode in episodes), 1),
        "steps": sum(episode.steps for episode in episodes),
        "deep": deep,
        "names": {name: round(fmean(rows), 2) for name, rows in groups["name"].items()},
        "turns": {turns: round(fmean(rows), 2) for turns, rows in sorted(groups["turns"].items())},
    }


def _dialogue(episode: Episode, template: Template) -> Dialogue:
    return Dialogue(episode.turns, [tool.spec for tool in episode.task.tools], template=template)


def _step(bench: Bench, pick: Policy, episodes: list[Episode], seed: int, keep_thoughts: bool) -> int:
    replies: list[Reply | None] = [None] * len(episodes)
    spent = [0] * len(episodes)
    if "probe" in pick:
        dialogues = [_dialogue(episode, "instruct") for episode in episodes]
        probes = bench.replies(pick["probe"], dialogues, seed=seed, limit=32)
        prompts = [bench.encode(dialogue) for dialogue in dialogues]
        scores = score(pick["scorer"], prompts, [probe.sampled.ids for probe in probes])
        for i, (probe, values) in enumerate(zip(probes, scores, strict=True)):
            spent[i] += len(probe.sampled.ids)
            if probe.sampled.finished and min(values) > pick["threshold"]:
                replies[i] = probe
    rest = [i for i, reply in enumerate(replies) if reply is None]
    if rest:
        template: Template = pick["template"]
        found = bench.replies(pick["state"], [_dialogue(episodes[i], template) for i in rest], seed=seed + 1000)
        for i, reply in zip(rest, found, strict=True):
            replies[i] = reply
            spent[i] += len(reply.sampled.ids)
    for episode, answer, tokens in zip(episodes, replies, spent, strict=True):
        assert answer is not None
        _advance(episode, answer, tokens, keep_thoughts)
    return len(rest)


def _advance(episode: Episode, reply: Reply, tokens: int, keep_thoughts: bool) -> None:
    episode.tokens += tokens
    episode.steps += 1
    episode.trace.append(f"{reply.thought} => {reply.text} {list(reply.calls)}")
    if not reply.calls:
        episode.text = reply.text
        return
    thought = reply.thought if keep_thoughts and reply.thought else None
    episode.turns.append(Turn("assistant", reply.text, thought, reply.calls))
    for name, arguments in reply.calls:
        tool = episode.task.tool(name)
        episode.turns.append(Turn("tool", tool.call(arguments) if tool else f"Error: there is no tool {name}."))


def auc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Chance that a right one scores above a wrong one."""
    good = [s for s, r in zip(scores, right, strict=True) if r]
    bad = [s for s, r in zip(scores, right, strict=True) if not r]
    if not good or not bad:
        return float("nan")
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def confidence(bench: Bench, probe: State, scorer: State, items: Sequence[Question]) -> dict[str, float]:
    """AUC of Thinking's score of Instruct's direct answer (least likely token; mean) for that answer being right."""
    dialogues = [ask(item, "instruct") for item in items]
    probes = bench.replies(probe, dialogues, limit=32)
    values = score(scorer, [bench.encode(each) for each in dialogues], [each.sampled.ids for each in probes])
    right = [item.grade(each.text) for item, each in zip(items, probes, strict=True)]
    return {
        "right": round(fmean(right), 3),
        "auc_min": round(auc([min(v) for v in values], right), 3),
        "auc_mean": round(auc([fmean(v) for v in values], right), 3),
    }
