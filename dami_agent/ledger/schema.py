"""Define the ledger's tables and the numbered migrations that lead to them.

Migrations are append-only: one that was released is never edited, the next is added under it. Each spells its columns
out itself, so that it does the same for ever; a test compares what they add up to with :data:`calls`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
)
from sqlalchemy.schema import CreateColumn

from dami_agent.errors import LedgerError
from dami_agent.ledger.database import BEGIN

MIGRATION_LOCK = 0xDA31  # PostgreSQL's advisory lock for it; any number that others are unlikely to use
metadata = MetaData()

migrations = Table(
    "dami_migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_at", Double, nullable=False),
)


def _calls_v1(meta: MetaData) -> Table:
    table = Table(
        "calls",
        meta,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        # which call
        Column("call_id", Text, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("run_id", Text),
        Column("parent_run_id", Text),
        Column("root_run_id", Text),
        Column("thread_id", Text),
        Column("node", Text),
        Column("step", Integer),
        Column("tags", JSON, nullable=False),
        Column("metadata", JSON, nullable=False),
        # what it was asked
        Column("messages", Integer, nullable=False),
        Column("tools_bound", JSON, nullable=False),
        Column("tools_digested", JSON, nullable=False),
        Column("tools_called", JSON, nullable=False),
        Column("invalid_tool_calls", Integer, nullable=False),
        # how deep, and why
        Column("asked", Text),
        Column("asked_by", Text),
        Column("intensity_requested", Double),
        Column("intensity_estimated", Double),
        Column("intensity", Double),
        Column("template", Text),
        Column("reason", Text),
        Column("policy", Text),
        Column("estimator", Text),
        Column("features", JSON, nullable=False),
        # what it cost
        Column("prompt_tokens", Integer, nullable=False),
        Column("probe_tokens", Integer, nullable=False),
        Column("scored_tokens", Integer, nullable=False),
        Column("reasoning_tokens", Integer, nullable=False),
        Column("answer_tokens", Integer, nullable=False),
        Column("output_tokens", Integer, nullable=False),
        # how it ended
        Column("finish_reason", Text),
        Column("thought_closed_by", Text),
        Column("stop", Text),
        Column("accepted", Boolean),
        Column("error_type", Text),
        Column("error", Text),
        # what ran it
        Column("model", Text, nullable=False),
        Column("weights_mode", Text),
        Column("weights_version", Integer),
        Column("sampling", JSON, nullable=False),
        Column("limits", JSON, nullable=False),
        Column("version", Text, nullable=False),
        # when; UTC seconds since 1970, then seconds
        Column("started_at", Double, nullable=False),
        Column("seconds", Double, nullable=False),
        Column("estimate_seconds", Double),
        Column("queue_seconds", Double),
        Column("switch_seconds", Double),
        Column("prefill_seconds", Double),
        Column("first_token_seconds", Double),
        Column("decode_seconds", Double),
    )
    for name in ("call_id", "run_id", "root_run_id", "thread_id", "started_at"):
        Index(f"calls_by_{name}", table.c[name])
    return table


def _columns_v2() -> tuple[Column[Any], ...]:
    """List the columns that schema 2 added; all may be NULL: older rows know nothing of them."""
    return (
        Column("intensity_low", Double),
        Column("intensity_high", Double),
        Column("intensity_answer", Double),
        Column("rule", Text),
        Column("considered", JSON(none_as_null=True)),
        Column("charged_to", Text),
        Column("tools_disabled", Boolean),
        Column("cached_tokens", Integer),
        Column("fingerprint", Text),
        Column("frontier", Text),
        Column("money", Double),
        Column("currency", Text),
        # only where the user turned it on
        Column("prompt_text", Text),
        Column("reasoning_text", Text),
        Column("answer_text", Text),
    )


def _columns_v3() -> tuple[Column[Any], ...]:
    """List the columns that schema 3 added; all may be NULL: older rows know nothing of them."""
    return (
        Column("intensity_bounded", Double),
        Column("intensity_snapped", Double),
        Column("dropped_tokens", Integer),
    )


def _columns_v4() -> tuple[Column[Any], ...]:
    """List the columns that schema 4 added; all may be NULL: older rows know nothing of them."""
    return (
        Column("run_name", Text),
        Column("root_run_name", Text),
        Column("trace_names", JSON(none_as_null=True)),
    )


def _columns_v6() -> tuple[Column[Any], ...]:
    """List the columns that schema 6 added; all may be NULL: older rows know nothing of them."""
    return (Column("intensity_prompt", Double),)


def _columns_v7() -> tuple[Column[Any], ...]:
    """List the columns that schema 7 added; all may be NULL: older rows know nothing of them."""
    return (Column("reread_tokens", Integer),)


def _columns_v8() -> tuple[Column[Any], ...]:
    """List the columns that schema 8 added; all may be NULL: most rows have one λ for all modules."""
    return (
        Column("intensity_modules", Text),
        Column("intensity_requested_modules", Text),
        Column("intensity_bounded_modules", Text),
        Column("intensity_answer_modules", Text),
    )


RENAMED_V5 = {"money": "cost", "dropped_tokens": "discarded_tokens"}
"""Columns of schemas 2 to 4 -> what they are called since."""


def _newest_calls(meta: MetaData) -> Table:
    table = _calls_v1(meta)
    later = (_columns_v2, _columns_v3, _columns_v4, _columns_v6, _columns_v7, _columns_v8)
    for column in (column for columns in later for column in columns()):
        name = RENAMED_V5.get(column.name, column.name)
        table.append_column(Column(name, column.type, nullable=column.nullable))
    return table


calls = _newest_calls(metadata)


@dataclass(frozen=True, slots=True)
class Migration:
    """Represents one step of the schema; ``apply`` runs in the transaction that notes it in ``dami_migrations``."""

    number: int
    name: str
    apply: Callable[[Connection], None]


def _create_calls(connection: Connection) -> None:
    _calls_v1(MetaData()).create(connection)


def _add(connection: Connection, columns: tuple[Column[Any], ...]) -> None:
    for column in columns:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE calls ADD COLUMN {definition}")


def _rename(connection: Connection, names: Mapping[str, str]) -> None:
    for old, new in names.items():
        connection.exec_driver_sql(f"ALTER TABLE calls RENAME COLUMN {old} TO {new}")


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "one row per attempt at a call", _create_calls),
    Migration(
        2, "bounds, rule, charge, cache, money and (where wanted) text of a call", lambda c: _add(c, _columns_v2())
    ),
    Migration(3, "λ as bounded and as snapped to the grid, tokens dropped", lambda c: _add(c, _columns_v3())),
    Migration(4, "names of runs and traces", lambda c: _add(c, _columns_v4())),
    Migration(5, "cost for money, discarded_tokens for dropped_tokens", lambda c: _rename(c, RENAMED_V5)),
    Migration(6, "λ that the prompt was read at", lambda c: _add(c, _columns_v6())),
    Migration(7, "prompt tokens read again because λ changed", lambda c: _add(c, _columns_v7())),
    Migration(8, "λ per module", lambda c: _add(c, _columns_v8())),
)


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, one transaction per step; others may be doing the same at this moment.

    ``connection`` has no transaction open. Writing is only tried where something is missing.

    Raises:
        LedgerError: if the database was written by a newer release.
    """
    with connection.begin():
        applied = _applied(connection)
    newest = MIGRATIONS[-1].number
    if applied and max(applied) > newest:
        raise LedgerError(
            f"the ledger has schema {max(applied)}; this release knows schemas up to {newest}",
            hint="update dami-agent, or point DAMI_LEDGER at another file",
        )
    if applied is not None and len(applied) == newest:
        return
    connection.execution_options(**{BEGIN: "IMMEDIATE"})
    with connection.begin():
        _exclude_others(connection)
        migrations.create(connection, checkfirst=True)
    for migration in MIGRATIONS:
        with connection.begin():
            _exclude_others(connection)
            if migration.number not in (_applied(connection) or ()):
                row = {"number": migration.number, "name": migration.name, "applied_at": time.time()}
                connection.execute(insert(migrations), row)
                migration.apply(connection)


def _exclude_others(connection: Connection) -> None:
    """Keep others from migrating until the transaction ends; SQLite's BEGIN IMMEDIATE does so already."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")  # once in a database's life
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def _applied(connection: Connection) -> set[int] | None:
    """Return the numbers of the migrations applied; None where not even their table exists."""
    if not inspect(connection).has_table(migrations.name):
        return None
    return set(connection.execute(select(migrations.c.number)).scalars())
