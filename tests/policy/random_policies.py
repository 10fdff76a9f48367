"""Policies drawn at random: per-tool budgets, run budgets, rules, attempts."""

from __future__ import annotations

from hypothesis import strategies as st

from dami_agent.policy import ReasoningPolicy
from tests.policy.support import FRONTIER

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
policies = st.builds(
    lambda tools, run, rules, knob, attempts: ReasoningPolicy(
        frontier=FRONTIER, tools=tools, run=run, rules=rules, accuracy_over_cost=knob, escalation=attempts
    ),
    tools=st.dictionaries(st.sampled_from(TOOLS), tool_settings, max_size=3),
    run=run_budget,
    rules=rules,
    knob=st.sampled_from([0.5, 0.4, 1.0, 0.0]),
    attempts=st.sampled_from([{}, {"max_attempts": 3}]),
)
