"""What was measured, as Markdown: one block of text for each marker name in README, docs and the pair's card.

Every block is made from the JSON of ``dami sweep``, ``dami bench``, ``dami_agent.evaluation.confidence_rule`` and
``python -m builtin_pair bfcl|freeform|conversations`` alone; ``pair`` from what the checkpoints' files say. The blocks
of ``dami bench`` are written in ``agent_tables.py``, those of requests in people's own words in ``talk_tables.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from builtin_pair.acceptance import limits, rival_tables
from builtin_pair.acceptance.agent_tables import agents, agents_unseen, bars, budgets, depth
from builtin_pair.acceptance.criterion import measured
from builtin_pair.acceptance.markdown import Json, mark, table
from builtin_pair.acceptance.prefix_table import prefix
from builtin_pair.acceptance.talk_tables import conversations, freeform

ENDS = ("0", "0.5", "1")
"""λs that are shown by level and by cell, where they were measured."""


def frontier(sweep: Json) -> str:
    """Show accuracy, tokens and the share that thinks, λ by λ."""
    rows = sweep["rows"]
    header = ["λ", *(f"{row['lambda']:g}" for row in rows)]
    body = [
        ["accuracy", *(_with(row) for row in rows)],
        ["tokens", *(_or_dash(row["tokens"], ".0f", row["tokens_ci"]) for row in rows)],
        ["outputs with a thought", *(f"{row['think_ratio']:.2f}" for row in rows)],
        ["their tokens", *(_or_dash(row["thinking_tokens"], ".0f", row["thinking_tokens_ci"]) for row in rows)],
        ["finished", *(_or_dash(row["finished"], ".3f", row["finished_ci"]) for row in rows)],
    ]
    return table(header, body, right=1) + f"\n\n{_how(sweep)}"


def _how(sweep: Json) -> str:
    point = sweep["switch_point"]
    template = "at every λ above 0" if point == 0 else f"above λ={point:g}"
    return (
        f"{sweep['questions']:,} held-out questions over {sweep['seeds']} seeds, temperature {sweep['temperature']:g}, "
        f"± half a 95 % interval; Thinking's chat template {template}. (`dami sweep`)"
    )


def levels(sweep: Json) -> str:
    """Show accuracy and tokens by level, at both ends and in the middle."""
    names = [str(level) for level in sweep["levels"]]
    body = []
    for row in _ends(sweep):
        right, spent = (
            [_or_dash(row[name].get(n), form, row[f"{name}_ci"].get(n)) for n in names]
            for name, form in (("by_level", ".3f"), ("tokens_by_level", ".0f"))
        )
        body += [[f"λ={row['lambda']:g}", "accuracy", *right], ["", "tokens", *spent]]
    return table(["", "", *(f"level {name}" for name in names)], body, right=2)


def cells(sweep: Json) -> str:
    """Show accuracy / tokens of each family at each level, at both ends and in the middle."""
    names = [str(level) for level in sweep["levels"]]

    def shown(row: Json, family: str, level: str) -> str:
        cell = row["cells"].get(family, {}).get(level)
        if not cell:
            return "-"
        right = _or_dash(cell["accuracy"], ".2f", cell["accuracy_ci"])
        return f"{right} / {_or_dash(cell['tokens'], '.0f', cell['tokens_ci'])}"

    body = [
        [family, f"{row['lambda']:g}", *(shown(row, family, name) for name in names)]
        for family in sweep["families"]
        for row in _ends(sweep)
    ]
    return table(["family", "λ", *(f"level {name}" for name in names)], body, right=1)


def _ends(sweep: Json) -> list[Json]:
    return [row for row in sweep["rows"] if f"{row['lambda']:g}" in ENDS]


def tools(sweep: Json) -> str:
    """Show tool calls, whole call exact, by setting and λ."""
    body = []
    for setting in dict.fromkeys(row["setting"] for row in sweep["tools"]):
        rows = [row for row in sweep["tools"] if row["setting"] == setting]
        body.append([setting, *(f"{row['exact']:.3f} ± {row['exact_ci']:.3f}" for row in rows)])
    lambdas = dict.fromkeys(f"λ={row['lambda']:g}" for row in sweep["tools"])
    asked = f"{sweep['tools'][0]['dialogues']} dialogues each" if sweep["tools"] else "none asked"
    return table(["whole call exact", *lambdas], body, right=1) + f"\n\n{asked}. (`dami sweep`)"


def unseen(sweep: Json) -> str:
    """Compare unseen templates, names and lengths with the matching seen questions."""
    body = [
        [
            f"{row['kind']}s",
            f"{row['lambda']:g}",
            f"{row['accuracy']:.3f}",
            _or_dash(row["seen"], ".3f"),
            "-" if row["gap"] is None else f"{100 * row['gap']:+.1f} ± {100 * row['gap_ci']:.1f}",
            f"{row['finished']:.3f}",
        ]
        for row in sweep["unseen"]
    ]
    header = ["never seen in training", "λ", "accuracy", "seen alike", "gap in points", "finished"]
    asked = f"{sweep['unseen'][0]['questions']} questions each" if sweep["unseen"] else "none asked"
    alike = "what is alike is said in `builtin_pair/acceptance/unseen.py`"
    return table(header, body, right=1) + f"\n\n{asked}; {alike}. (`python -m builtin_pair accept`)"


def templates(sweep: Json) -> str:
    """Compare Instruct's chat template with Thinking's, at every λ above 0."""
    body = [
        [
            f"{row['lambda']:g}",
            *(f"{row[name]['accuracy']:.3f} / {row[name]['tokens']:.0f}" for name in ("instruct", "thinking")),
            f"{100 * row['gain']:+.1f}" + ("" if row["gain_ci"] is None else f" ± {100 * row['gain_ci']:.1f}"),
        ]
        for row in sweep["switch"]
    ]
    header = ["λ", "Instruct's template: accuracy / tokens", "Thinking's", "gain in points"]
    return (
        f"{table(header, body, right=1)}\n\nCalibration split; switch point {sweep['switch_point']:g}. (`dami sweep`)"
    )


def controls(sweep: Json) -> str:
    """Show oracle, pass@k, best of n and retry."""
    tried = sweep["controls"]
    k = tried["tries"]
    rows = [("Thinking once (mean of all samples)", tried["thinking"])]
    rows += [(f"oracle: smallest right of {k} λs", tried["oracle"]), (f"pass@{k} of Thinking", tried["pass_at_k"])]
    rows += [(f"Thinking, most probable of {row['n']}", row) for row in tried["best_of"] if row["n"] in (2, 3, k)]
    rows += [("Thinking, least probable tenth once more", tried["retry"])]
    body = [
        [
            name,
            _with(row),
            _or_dash(row["tokens"], ".0f", row["tokens_ci"]),
            f"{row.get('all_tokens', row['tokens']):.0f}",
        ]
        for name, row in rows
    ]
    text = table(["", "accuracy", "tokens", "of all tries"], body, right=1)
    ci = tried["difference_ci"]
    return (
        f"{text}\n\n{tried['questions']} of the held-out questions; oracle minus pass@{k}: "
        f"{100 * tried['difference']:+.1f}{'' if ci is None else f' ± {100 * ci:.1f}'} points. (`dami sweep`)"
    )


def checklist(sweep: Json) -> str:
    """Show every criterion, whether it is met, and what was measured."""
    body = []
    for each in sweep.get("criteria") or sweep["bars"]:  # "bars" is what they were called in older files
        value, interval = measured(each)
        met, aimed = mark(each["met"]), mark(each["aimed"])
        body.append([each["title"], each["must"], met, each["aim"], aimed, value, interval, each["note"]])
    return table(["bar", "must", "met", "aim", "met", "measured", "95 %", "note"], body) + f"\n\n{_how(sweep)}"


def pair(facts: Json) -> str:
    """Show shape and size of the pair."""
    shape = (
        f"{facts['num_hidden_layers']} layers, hidden {facts['hidden_size']}, {facts['num_attention_heads']} query and "
    )
    shape += f"{facts['num_key_value_heads']} key-value heads of {facts['head_dim']}, MLP {facts['intermediate_size']}"
    size = f"{facts['bytes'] / 1e6:.1f} MB"
    each = f"{facts['parameters'] / 1e6:.2f} M each, stored in {facts['dtype'].lower()} ({size} each)"
    rows = [
        ["architecture", f"`{facts['architecture']}`, {shape}, tied embeddings"],
        ["parameters", each],
        ["tokenizer", f"byte-level BPE of {facts['vocab_size']:,} entries; any text can be encoded"],
        ["fingerprint", f"`{facts['fingerprint']}`"],
    ]
    return table(["", ""], rows)


def estimator(calibrate: Json) -> str:
    """Show what the confidence estimator's choice of λ is worth on the calibration split."""
    rows = [(f"always λ={row['lambda']:g}", row) for row in calibrate["fixed"] if f"{row['lambda']:g}" in ENDS]
    rows += [("**the estimator's rule**", calibrate["default"])]
    rows += [("its confidences dealt to the wrong items", calibrate["shuffled"])]
    rows += [(f"best rule of its form, accept={calibrate['chosen']['accept']:g}", calibrate["chosen"])]
    rows += [("oracle: the smallest right λ", calibrate["oracle"])]
    body = [[name, f"{row['accuracy']:.3f}", f"{row['tokens']:.1f}"] for name, row in rows]
    auc = {kind: value for kind, value in calibrate["auc"]["min, w=0.5"].items() if value is not None}
    kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in auc.items())
    items = ", ".join(f"{count} {kind}" for kind, count in calibrate["items"].items() if kind != "all")
    return (
        f"{table(['', 'accuracy', 'tokens, probes included'], body, right=1)}\n\n"
        f"Items of the calibration split: {items}. AUC of the confidence for Instruct's own reply being right: "
        f"{kinds}. (`python -m dami_agent.evaluation.confidence_rule`)"
    )


_READS = {
    "states": "`preference`: hidden states of the prompt",
    "probe": "`confidence`: Instruct's probe",
    "joint": "`joint`: both",
    "entropy": "`entropy`: how uncertain that probe was",
}
_KINDS = {"plain": "questions", "tools": "steps with tools"}


def heads(trained: Json) -> str:
    """Show what each head comes to on prompts that none of them was fitted to, beside λ=0 and Thinking."""
    body = []
    for kind, asked in _KINDS.items():
        mine = [card for card in trained["test"] if card["kind"] == kind]
        if not mine:
            continue
        for row in (mine[0]["fixed"][0], mine[0]["fixed"][-1]):
            name = f"{mine[0]['prompts']} {asked}"
            body.append([name, f"λ={row['lambda']:g}", f"{row['accuracy']:.3f}", f"{row['tokens']:.1f}", "-", "-"])
        for card in mine:
            point = next(each for each in card["prices"] if each["price"] == card["price"])
            gain, static = (
                f"{100 * point[name]:+.1f} ± {100 * point[f'{name}_ci']:.1f}" for name in ("gain", "static_gain")
            )
            shown = [f"{point['accuracy']:.3f}", f"{point['tokens']:.1f}", gain, static]
            body.append(["", f"{_READS[card['reads']]}, price {card['price']:g}", *shown])
    header = ["", "λ by", "accuracy", "tokens", "points against Thinking", "against fixed λs at equal tokens"]
    counts = {card["kind"]: card["prompts"] for card in trained["cards"]}
    learned = ", ".join(f"{count} {_KINDS[kind]}" for kind, count in counts.items())
    return (
        f"{table(header, body, right=2)}\n\nLearned from {learned} of the calibration split; probes' tokens included. "
        "(`dami train-estimator`)"
    )


def bfcl(result: Json) -> str:
    """Show how many requests over strangers' tools are answered by valid calls, by category and λ."""
    names = list(result["rows"][0]["by_category"])
    body, errors = [], dict[str, int]()
    for row in result["rows"]:
        kinds = [row, *(row["by_category"][name] for name in names)]
        label = row["lambda"] if isinstance(row["lambda"], str) else f"λ={row['lambda']:g}"
        body += [
            [label, "valid", *(f"{each['valid']:.3f} ± {each['valid_ci']:.3f}" for each in kinds)],
            ["", "right functions", *(f"{each['name']:.3f} ± {each['name_ci']:.3f}" for each in kinds)],
            ["", "tokens", *(f"{each['tokens']:.0f}" for each in kinds)],
        ]
        for kind, count in row["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    labels = body[::3]
    counts = ", ".join(f"{row['unreadable']} at {each[0]}" for row, each in zip(result["rows"], labels, strict=True))
    failed = ", ".join(f"{count} {kind}" for kind, count in errors.items()) or "none"
    first = result["rows"][0]["by_category"]
    asked = ", ".join(f"{first[name]['items']} {name}" for name in names)
    return (
        f"{table(['', '', 'all', *names], body, right=2)}\n\n{result['items']} items of `bfcl-eval`, none of them "
        f"trained on ({asked}), seed {result['seed']}, at most {result['max_tokens']} tokens each, ± half a 95 % "
        f"interval. Replies with a call that was cut off or cannot be read: {counts}. Requests that raised an error: "
        f"{failed}. (`python -m builtin_pair bfcl`)"
    )


def _with(row: Json) -> str:
    return f"{row['accuracy']:.3f}" + (f" ± {row['accuracy_ci']:.3f}" if "accuracy_ci" in row else "")


def _or_dash(value: float | None, form: str, half: float | None = None) -> str:
    """Format the value and half its interval, where there are any."""
    if value is None:
        return "-"
    return format(value, form) + ("" if half is None else f" ± {format(half, form)}")


BLOCKS: Mapping[str, tuple[str, Callable[[Json], str]]] = {
    "frontier": ("sweep", frontier),
    "levels": ("sweep", levels),
    "cells": ("sweep", cells),
    "tools": ("sweep", tools),
    "unseen": ("sweep", unseen),
    "controls": ("sweep", controls),
    "templates": ("sweep", templates),
    "bars": ("sweep", checklist),
    "pair": ("pair", pair),
    "agents": ("bench", agents),
    "depth": ("bench", depth),
    "agent_bars": ("bench", bars),
    "budgets": ("budgets", budgets),
    "agents_unseen": ("unseen", agents_unseen),
    "estimator": ("calibrate", estimator),
    "heads": ("heads", heads),
    "bfcl": ("bfcl", bfcl),
    "freeform": ("freeform", freeform),
    "conversations": ("conversations", conversations),
    "prefix": ("prefix", prefix),
    "quality": ("quality", rival_tables.quality),
    "merges": ("merges", rival_tables.merges),
    "limits_agents": ("bench", limits.agents),
    "limits_questions": ("quality", limits.questions),
    "limits_budgets": ("budgets", limits.budgets),
    "limits_unseen": ("unseen", limits.unseen),
}
"""Marker name -> which result it is made from, and how."""
