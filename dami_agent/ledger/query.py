"""Find rows: what the database can ask, and what is asked of the rows it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, or_, true

from dami_agent.ledger.cells import DamagedCell, raw_columns, row_of
from dami_agent.ledger.row import CallRow
from dami_agent.ledger.schema import calls
from dami_agent.ledger.store import Store


class CallRows(list[CallRow]):
    """Lists rows, oldest first; ``skipped`` counts those that cannot be read because a cell is damaged."""

    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Says which rows are wanted; see :meth:`Ledger.rows`. None asks for nothing."""

    run: str | None = None
    call: str | None = None
    thread: str | None = None
    tool: str | None = None
    node: str | None = None
    name: str | None = None
    tag: str | None = None
    user: str | None = None
    since: datetime | None = None
    after: int | None = None
    containing: str | None = None

    def query(self) -> Select[Any]:
        """Select all that may match, newest first; :meth:`keeps` looks at the rest."""
        query = raw_columns().order_by(calls.c.started_at.desc(), calls.c.id.desc())
        if self.run is not None:
            places = (calls.c.run_id, calls.c.parent_run_id, calls.c.root_run_id)
            query = query.where(or_(*(_begins(c, self.run) for c in places)))
        if self.call is not None:
            query = query.where(_begins(calls.c.call_id, self.call))
        for column, value in ((calls.c.thread_id, self.thread), (calls.c.node, self.node)):
            if value is not None:
                query = query.where(column == value)
        if self.after is not None:
            query = query.where(calls.c.id > self.after)
        if self.since is not None:
            query = query.where(calls.c.started_at >= self.since.timestamp())
        if self.tool is not None:
            query = query.where(_may_name(self.tool))
        return query

    @property
    def looks_at_rows(self) -> bool:
        """Tell whether SQL alone cannot tell: names in JSON lists, and text whatever its case and script."""
        return any(value is not None for value in (self.tool, self.name, self.tag, self.user, self.containing))

    def keeps(self, row: CallRow) -> bool:
        """Tell whether a row of :meth:`query` is really wanted."""
        return (
            (self.tool is None or self.tool in (*row.tools_called, *row.tools_digested))
            and (self.name is None or self.name in row.names)
            and (self.tag is None or self.tag in row.tags)
            and (self.user is None or self.user == row.user)
            and (self.containing is None or _contains(row, self.containing.casefold()))
        )


def find(store: Store, wanted: Filter, limit: int | None) -> CallRows:
    """Find all rows that ``wanted`` keeps, or the newest ``limit`` of them, oldest first."""
    found = CallRows()
    with store.reading() as connection:
        result = connection.execute(wanted.query().execution_options(yield_per=500))
        with result:  # a server's cursor is closed at the limit
            for row in _readable(result.mappings(), found):
                if wanted.looks_at_rows and not wanted.keeps(row):
                    continue
                found.append(row)
                if len(found) == limit:
                    break
    found.reverse()
    return found


def _readable(results: Any, found: CallRows) -> Iterator[CallRow]:
    for values in results:
        try:
            row = row_of(values)
        except DamagedCell:
            found.skipped += 1
            continue
        yield row


def _begins(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    return func.substr(column, 1, len(text)) == text  # not LIKE: SQLite's knows no case


def _may_name(tool: str) -> ColumnElement[bool]:
    """Match rows whose lists of tools could hold the name; :meth:`Filter.keeps` looks at the names themselves."""
    if not (tool.isascii() and tool.isidentifier()):
        return true()  # JSON may write it with escapes
    lists = (calls.c.tools_called, calls.c.tools_digested)
    return or_(*(cast(c, Text).contains(f'"{tool}"', autoescape=True) for c in lists))


def _contains(row: CallRow, text: str) -> bool:
    return any(text in str(value).casefold() for value in row.to_dict().values())
