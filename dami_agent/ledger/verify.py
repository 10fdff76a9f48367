"""Verify that a ledger is whole: the file, its schema, every row, and the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from dami_agent.errors import InvalidIntensity
from dami_agent.ledger.cells import DamagedCell, raw_columns, row_of
from dami_agent.ledger.database import first_line
from dami_agent.ledger.schema import MIGRATIONS, calls, migrations
from dami_agent.ledger.store import Store
from dami_agent.ledger.summary import TOKENS
from dami_agent.types import Intensity

MOST = 20  # problems of one kind that are spelt out
_STAGES = ("requested", "estimated", "low", "high", "bounded", "snapped", "answer", "prompt")
MODULES = tuple(f"intensity{stage}_modules" for stage in ("", "_requested", "_bounded", "_answer"))
INTENSITIES = ("intensity", *(f"intensity_{stage}" for stage in _STAGES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Says what was looked at, and what is wrong with it; whole if ``problems`` is empty.

    Attributes:
        rows: how many could be read.
        schema: number of the newest migration applied; 0 for a ledger never written to.
        problems: in words, each with the row's id.
    """

    rows: int
    schema: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.problems


def verify(store: Store) -> Verification:
    """Read everything in one transaction and check it; others may be writing."""
    problems: list[str] = []
    rows, schema = 0, 0
    try:
        if store.exists():
            with store.reading() as connection:
                problems += _file(connection)
                schema, wrong = _schema(connection)
                problems += wrong
                rows, wrong = _rows(connection)
                problems += wrong
    except Exception as e:  # whatever a damaged file does to the driver
        problems.append(f"cannot be read to the end: {first_line(e)}")
    return Verification(rows=rows, schema=schema, problems=tuple(problems))


def _file(connection: Connection) -> list[str]:
    """Run SQLite's own check of pages and indexes; a server looks after its files itself."""
    if connection.dialect.name != "sqlite":
        return []
    said = connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})").scalars()
    return [f"integrity_check: {line}" for line in said if line != "ok"]


def _schema(connection: Connection) -> tuple[int, list[str]]:
    applied = {row.number: row.name for row in connection.execute(select(migrations.c.number, migrations.c.name))}
    expected = {m.number: m.name for m in MIGRATIONS}
    wrong = [
        f"migration {n} is {applied.get(n)!r}, not {name!r}" for n, name in expected.items() if applied.get(n) != name
    ]
    return max(applied, default=0), wrong


def _rows(connection: Connection) -> tuple[int, list[str]]:
    count, last, problems = 0, 0, []
    sums: Counter[str] = Counter()
    attempts: Counter[tuple[str, int]] = Counter()
    query = raw_columns().order_by(calls.c.id).execution_options(yield_per=500)
    for values in connection.execute(query).mappings():
        wrong = list(_wrong(values))
        if values["id"] <= last:
            wrong.append(f"comes after id {last}")
        problems += [f"row {values['id']}: {what}" for what in wrong]
        last, count = values["id"], count + 1
        attempts[values["call_id"], values["attempt"]] += 1
        sums.update({name: values[name] for name in TOKENS if isinstance(values[name], int)})
    for (call_id, attempt), times in attempts.items():
        if times > 1 and call_id:
            problems.append(f"call {call_id}, attempt {attempt} is recorded {times} times")
    cut = problems[:MOST] + ([f"and {len(problems) - MOST} more"] if len(problems) > MOST else [])
    total = connection.execute(select(func.count(), *(func.sum(calls.c[name]) for name in TOKENS))).one()
    if (found := (count, *(sums[name] for name in TOKENS))) != tuple(value or 0 for value in total):
        cut.append(f"the totals {tuple(total)} are not those of the rows, {found}")
    return count, cut


def _is_of(text: str, number: float | None) -> bool:
    """Tell whether ``text`` is canonical, of a λ per module that is ``number`` as a number."""
    try:
        found = Intensity(text)
    except InvalidIntensity:
        return False
    return found.modules == text and float(found) == number


def _wrong(values: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what is wrong with one row."""
    try:
        row = row_of(values)
    except DamagedCell as e:
        yield str(e)
        return
    discarded, reread = row.discarded_tokens or 0, row.reread_tokens or 0
    if row.output_tokens != row.probe_tokens + row.reasoning_tokens + row.answer_tokens + discarded:
        yield f"output_tokens {row.output_tokens} is not the sum of probe, reasoning, answer and discarded"
    if (
        min(discarded, reread, *(getattr(row, name) for name in TOKENS)) < 0
        or not 0 <= (row.cached_tokens or 0) <= row.prompt_tokens
    ):
        yield "an impossible token count"
    if not all(0 <= value <= 1 for name in INTENSITIES if (value := getattr(row, name)) is not None):
        yield "an intensity outside [0, 1]"
    for name in MODULES:
        text, number = getattr(row, name), getattr(row, name.removesuffix("_modules"))
        if text is not None and not _is_of(text, number):
            yield f"{name} is not the canonical text of a λ per module whose largest is {number}"
    if (row.cost is None) != (row.currency is None):
        yield "cost without currency, or currency without cost"
