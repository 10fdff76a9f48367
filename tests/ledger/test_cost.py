"""One price for budgets and ledger: what a run has spent is what its rows add up to."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.errors import BudgetExhausted, InvalidPolicy, UsageError
from dami_agent.ledger import Ledger, Prices
from dami_agent.policy import BudgetTracker, Price, ReasoningPolicy, RunBudget, Usage
from dami_agent.policy.budgets import Budgets
from dami_agent.types import Limits, RunContext
from tests.ledger.records import make_record

amounts = st.sampled_from([0.0, 0.25, 3.0, 1e4])
tables = st.builds(Price, prompt=amounts, cached=st.none() | amounts, output=amounts, device_second=amounts)


@settings(max_examples=60, deadline=None)
@given(tables, st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True))
def test_a_run_has_spent_what_its_rows_add_up_to(price: Price, seeds: list[int]) -> None:
    budgets = Budgets(RunBudget(price=price))
    table = Prices(models={"tiny": price})
    rows = 0.0
    for seed in seeds:
        record = make_record(seed, error=random.Random(seed).choice([None, "Cancelled: x"]))
        budgets.reserve("run", seed, Limits(), "answer")
        budgets.settle("run", seed, record.usage)
        rows += table.cost_of(record) or 0.0
    assert budgets.spent("run").cost == pytest.approx(rows)


@settings(max_examples=100, deadline=None)
@given(tables, st.sampled_from(["taper", "end", "error"]), st.integers(0, 2**31))
def test_branches_together_never_use_more_than_their_cost_budget(price: Price, end: Any, seed: int) -> None:
    rng = random.Random(seed)
    if not (price.output or price.device_second):
        return
    budgets = Budgets(RunBudget(max_cost=5.0, price=price, on_exhausted=end))
    held: dict[int, Limits] = {}
    for place in range(12):
        if held and rng.random() < 0.5:
            key = rng.choice(list(held))
            most = held.pop(key)  # all of its tokens, in all of its time
            used = Usage(tokens=most.max_tokens or 0, device_seconds=most.timeout or 0.0)
            budgets.settle("run", key, used)
        try:
            held[place] = budgets.reserve("run", place, Limits(max_tokens=10**6, timeout=1e3), "answer").limits
        except BudgetExhausted:
            continue
    for key, most in held.items():
        budgets.settle("run", key, Usage(tokens=most.max_tokens or 0, device_seconds=most.timeout or 0.0))
    one_step = price.cost_of(Usage(tokens=1, device_seconds=1e-3))  # the least a step is given
    assert budgets.spent("run").cost <= 5.0 + 12 * one_step + 1e-9


def test_a_policy_file_and_the_ledgers_table_take_the_same_price(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("run: {max_cost: 1, price: {prompt: 0.1, cached: 0.01, output: 0.4}}")
    (tmp_path / "p.toml").write_text("[run]\nmax_cost = 1\n[run.price]\nprompt = 0.1\ncached = 0.01\noutput = 0.4\n")
    table = Prices.from_dict({"models": {"*": {"prompt": 0.1, "cached": 0.01, "output": 0.4}}})
    for name in ("p.yaml", "p.toml"):
        run = ReasoningPolicy.from_file(tmp_path / name).run
        assert isinstance(run, RunBudget)
        assert run.price == table.models["*"]


def test_the_old_name_of_the_device_second_still_reads() -> None:
    old = ReasoningPolicy.from_dict({"run": {"max_cost": 1, "price": {"second": 0.5}}})
    assert old == ReasoningPolicy.from_dict({"run": {"max_cost": 1, "price": {"device_second": 0.5}}})


@pytest.mark.parametrize(
    ("price", "says"),
    [
        ("{ouput: 1}", r"p\.yaml:4: run\.price\.ouput: unknown key 'ouput'(.|\n)*did you mean 'output'"),
        ("{output: -1}", r"p\.yaml:4: run\.price\.output: must be a number of at least 0, not -1"),
        ("{output: .nan}", r"run\.price\.output: must be a number"),
        ("{output: true}", r"run\.price\.output: must be a number"),
        ("3", r"p\.yaml:3: run\.price: expected prices"),
    ],
)
def test_a_wrong_price_in_a_policy_names_line_and_field(tmp_path: Path, price: str, says: str) -> None:
    block = price if price == "3" else f"\n    {price[1:-1]}"
    (tmp_path / "p.yaml").write_text(f"run:\n  max_cost: 1\n  price: {block}\n")
    with pytest.raises(InvalidPolicy, match=says):
        ReasoningPolicy.from_file(tmp_path / "p.yaml")


@pytest.mark.parametrize("field", ["prompt", "cached", "output", "device_second"])
@pytest.mark.parametrize("value", [-1, math.inf, math.nan, True, "3"])
def test_a_wrong_price_in_python(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} must be"):
        Price(**{field: value})


def test_a_failed_call_costs_what_it_used(tmp_path: Path) -> None:
    price = Price(prompt=1.0, output=5.0)
    ledger = Ledger.open(tmp_path / "l.sqlite", prices=Prices(models={"*": price}))
    record = make_record(7, error="Cancelled: by its caller")
    ledger.record(record)
    (row,) = ledger.rows()
    assert row.cost == pytest.approx(price.cost_of(record.usage))
    assert row.cost is not None
    assert row.cost > 0
    assert BudgetTracker().spent(ReasoningPolicy(), RunContext()).cost == 0
