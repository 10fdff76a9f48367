"""Policies drawn at random: per-tool budgets, run budgets, rules, attempts, plans of several replies."""

from __future__ import annotations

from hypothesis import strategies as st

from dami_agent.policy import ReasoningPolicy
from dami_agent.types import Message, Reply
from tests.policy.support import FRONTIER


def is_long(messages: tuple[Message, ...], reply: Reply) -> bool:
    """Check a reply of a cascade."""
    return len(reply.content) > 20


TOOLS = ("search", "sum", "mail")
cap = st.none() | st.integers(0, 80)
intensity = st.sampled_from([0, 0.3, 1, "auto", (0, 0.4), (0.5, 1), ("low", "high")])
tool_settings = st.fixed_dictionaries(
    {"intensity": intensity},
    optional={"max_reasoning_tokens": st.integers(0, 60), "run_max_reasoning_tokens": st.integers(0, 150)},
)
run_budget = st.fixed_dictionaries(
    {"on_exhausted": st.sampled_from(["error", "taper", "end"])},
    optional={
        "max_tokens": st.integers(1, 600),
        "max_reasoning_tokens": st.integers(0, 200),
        "answer_reserve": st.integers(1, 60),
    },
)
rules = st.lists(
    st.fixed_dictionaries(
        {
            "when": st.sampled_from(
                [{}, {"digests": ["sum", "mail"]}, {"node": "n"}, {"attempt": [1, None]}, {"tags": "t"}]
            )
        },
        optional={
            "intensity": intensity,
            "max_tokens": st.integers(1, 100),
            "answer_intensity": st.sampled_from([0.0, 0.6]),
        },
    ),
    max_size=2,
)
PLANS = (
    {},
    {"cascade": {"check": "agreement"}},
    {"cascade": {"intensities": [0, 0.5, 1], "check": "tests.policy.random_policies:is_long"}},
    {"self_consistency": {"samples": 3, "accept": None}},
)
policies = st.builds(
    lambda tools, run, rules, knob, attempts, plan: ReasoningPolicy(
        frontier=FRONTIER, tools=tools, run=run, rules=rules, accuracy_over_cost=knob, escalation=attempts, **plan
    ),
    tools=st.dictionaries(st.sampled_from(TOOLS), tool_settings, max_size=3),
    run=run_budget,
    rules=rules,
    knob=st.sampled_from([0.5, 0.4, 1.0, 0.0]),
    attempts=st.sampled_from([{}, {"max_attempts": 3}]),
    plan=st.sampled_from(PLANS),
)
