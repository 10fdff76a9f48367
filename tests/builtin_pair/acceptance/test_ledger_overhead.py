"""What writing costs beside a call: the arithmetic, and that what is measured really was written."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from builtin_pair.acceptance import ledger_overhead as overhead
from builtin_pair.acceptance.ledger_overhead import TimedLedger, line, measure, summary
from dami_agent.errors import UsageError
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record


def slow_median(values: list[float]) -> float:
    """Half of the values are not above it, half not below."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def test_medians_and_shares() -> None:
    for _ in range(30):
        count = random.randint(1, 40)
        writes = [random.uniform(1e-5, 5e-3) for _ in range(count)]
        calls = [random.uniform(1e-3, 2.0) for _ in range(count)]
        found = summary(writes, calls)
        cost = 1e3 * slow_median(writes)
        share = slow_median([writes[n] / calls[n] for n in range(count)])
        assert found["calls"] == count
        assert found["write_ms"] == pytest.approx(cost, abs=1e-4)
        assert found["call_ms"] == pytest.approx(1e3 * slow_median(calls), abs=1e-4)
        assert found["share_of_a_call"] == pytest.approx(share, abs=1e-6)
        assert found["share_of_all"] == pytest.approx(sum(writes) / sum(calls), abs=1e-6)
        assert found["within"] == (cost <= 1 and share <= 0.01)


@pytest.mark.parametrize(
    ("write", "call", "within"), [(5e-4, 1.0, True), (2e-3, 10.0, False), (5e-4, 0.01, False), (1e-3, 0.1, True)]
)
def test_the_bar(write: float, call: float, within: bool) -> None:
    found = summary([write] * 3, [call] * 3)
    assert found["within"] is within
    assert line(found).endswith("yes" if within else "NO")


@pytest.mark.parametrize(("writes", "calls"), [([], []), ([1.0], [])])
def test_nothing_to_sum_up(writes: list[float], calls: list[float]) -> None:
    with pytest.raises(UsageError):
        summary(writes, calls)


def test_a_timed_write_is_committed_when_its_time_is_taken(tmp_path: Path) -> None:
    ledger = TimedLedger(tmp_path / "ledger.sqlite")
    records = [make_record(random.randrange(10**6)) for _ in range(5)]
    for count, record in enumerate(records, 1):
        ledger.record(record)
        assert (len(ledger.writes), len(Ledger.open(tmp_path / "ledger.sqlite").rows())) == (count, count)
    assert all(seconds > 0 for seconds in ledger.writes)
    assert ledger.calls == [record.seconds for record in records]
    ledger.close()


def test_real_calls_beside_the_users_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "mine.sqlite"))
    places: list[Path] = []

    class Noting(TimedLedger):
        def __init__(self, file: Path) -> None:
            places.append(file)
            super().__init__(file)

    monkeypatch.setattr(overhead, "TimedLedger", Noting)
    found: dict[str, Any] = measure(tasks=1)
    assert found["calls"] >= 1
    assert 0 < found["write_ms"] < found["call_ms"]
    assert [file.parent.parent for file in places] == [tmp_path]  # on the disk that the user's calls are kept on
    assert list(tmp_path.iterdir()) == []
