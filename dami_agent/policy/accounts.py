"""Keep what each run or thread has used, and what it has set aside; nothing that was spent is ever forgotten.

Accounts that were used lately are kept in memory. The others go into a temporary database of this process, whose memory
is bounded too: SQLite writes it to disk, and removes it when the process ends.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from dami_agent.types import Price, Usage

MOST_ACCOUNTS = 10_000
"""Accounts kept in memory."""

MOST_RUNS = 1_000_000
"""Accounts of single runs kept on disk; those of threads all are."""

RUN, THREAD = "run ", "thread "
"""How the names of accounts begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Counts what an account has used so far; ``by_tool``: reasoning tokens charged to each tool and to ``answer``."""

    tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    by_tool: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0

    def plus(self, usage: Usage, price: Price, tool: str) -> Spent:
        """Add what one attempt used, charged to ``tool``; seconds are the clock's, not the attempt's."""
        return dataclasses.replace(
            self,
            tokens=self.tokens + usage.tokens,
            reasoning_tokens=self.reasoning_tokens + usage.reasoning_tokens,
            cost=self.cost + price.cost_of(usage),
            by_tool={**self.by_tool, tool: self.by_tool.get(tool, 0) + usage.reasoning_tokens},
            steps=self.steps + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Says what a call that is running may use at most.

    Attributes:
        timed: the timeout is the budget's, and is not its end.
        waiting: the call waits for what others have set aside, to set aside more.
        thread: the thread that began the call.
    """

    tokens: int
    reasoning_tokens: int
    seconds: float
    cost: float
    charged_to: str
    timed: bool = False
    waiting: bool = False
    thread: int = field(default_factory=threading.get_ident)

    @property
    def whole(self) -> Usage:
        """Return all of it as used, for an attempt of which nobody knows what it used."""
        return Usage(tokens=self.tokens, reasoning_tokens=self.reasoning_tokens, device_seconds=self.seconds)


class Account:
    """Keeps what one run or thread has used."""

    def __init__(self, spent: Spent | None = None) -> None:
        self.spent = spent or Spent()
        self.open: dict[Hashable, Reservation] = {}
        self.since = 0.0  # when the first of the open calls began

    def now(self, clock: float) -> Spent:
        """Return what is spent so far, the clock of open calls included."""
        running = clock - self.since if self.open else 0.0
        return dataclasses.replace(self.spent, seconds=self.spent.seconds + running)


class Accounts:
    """Keeps all accounts of one policy by name. The caller holds a lock around each call.

    Args:
        most: how many are kept in memory; those with open calls always are.
    """

    def __init__(self, most: int = MOST_ACCOUNTS) -> None:
        self._most = most
        self._recent: OrderedDict[str, Account] = OrderedDict()
        self._archive: _Archive | None = None

    @property
    def in_memory(self) -> tuple[str, ...]:
        """Return the names of the accounts kept in memory, those used last at the end."""
        return tuple(self._recent)

    def find(self, name: str) -> Account | None:
        """Find the account, if anything was ever put on it."""
        if name in self._recent:
            self._recent.move_to_end(name)
            return self._recent[name]
        spent = self._archived(name)
        return None if spent is None else self._keep(name, Account(spent))

    def open(self, name: str) -> Account:
        """Find the account, or open a fresh one."""
        return self.find(name) or self._keep(name, Account())

    def close_all(self) -> None:
        """Forget the open calls: they are another process's."""
        for account in self._recent.values():
            account.open.clear()

    def _keep(self, name: str, account: Account) -> Account:
        self._recent[name] = account
        if len(self._recent) > self._most:
            idle = next((each for each, held in self._recent.items() if not held.open and each != name), None)
            if idle is not None and self._put_away(idle):
                del self._recent[idle]
        return account

    def _put_away(self, name: str) -> bool:
        """Save the account on disk and return whether it is safe there; without a disk it stays in memory."""
        spent = self._recent[name].spent
        if not spent.steps:
            return True
        try:
            if self._archive is None or self._archive.pid != os.getpid():
                self._archive = _Archive()
            self._archive.put(name, spent)
        except sqlite3.Error:
            return False
        return True

    def _archived(self, name: str) -> Spent | None:
        if self._archive is None or self._archive.pid != os.getpid():  # a forked child must not touch its parent's
            return None
        try:
            return self._archive.get(name)
        except sqlite3.Error:
            return None


class _Archive:
    """Stores what idle accounts have spent, in a database without a name that lives as long as its connection."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE accounts (place INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE, spent TEXT)"
        )

    def put(self, name: str, spent: Spent) -> None:
        row = (_key(name), json.dumps(dataclasses.asdict(spent)))
        place = self._database.execute("INSERT OR REPLACE INTO accounts (name, spent) VALUES (?, ?)", row).lastrowid
        if place is not None and place % 1_000 == 0:  # a run that ended is never asked about again; a thread may be
            old = (place - MOST_RUNS, _key(RUN), _key(RUN + "\U0010ffff"))
            self._database.execute("DELETE FROM accounts WHERE place < ? AND name >= ? AND name < ?", old)

    def get(self, name: str) -> Spent | None:
        row = self._database.execute("SELECT spent FROM accounts WHERE name = ?", (_key(name),)).fetchone()
        return None if row is None else Spent(**json.loads(row[0]))


def _key(name: str) -> bytes:
    """Encode the name as SQLite takes it, which refuses a lone surrogate as text."""
    return name.encode("utf-8", "surrogatepass")
