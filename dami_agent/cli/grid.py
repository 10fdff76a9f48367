"""Draw tables that, in a narrow window, leave out what matters least instead of cutting everything short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dami_agent.cli.output import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Cell: TypeAlias = "str | Text"

GAP = 2  # columns of the terminal between two of the table's


@dataclass(frozen=True, slots=True)
class Column:
    """Describes one column.

    Attributes:
        name: its heading.
        rank: 0 always stays; of the others the highest goes first, and before it those that say nothing.
        right: whether its cells are flush right, as numbers are.
        least: of a text that may be broken into lines: the width below which other columns rather go; 0: never broken.
    """

    name: str
    rank: int = 0
    right: bool = False
    least: int = 0


def grid(columns: Sequence[Column], lines: Sequence[Sequence[Cell]], width: int, *, wrap: bool = True) -> Table:
    """Lay out ``lines`` under ``columns`` within ``width``, if those of rank 0 allow it; cells are text, never markup.

    Args:
        columns: from left to right.
        lines: a cell for each column.
        width: of the terminal.
        wrap: break long texts into lines; otherwise they are cut to one.
    """
    from rich.table import Table
    from rich.text import Text

    texts = [[cell if isinstance(cell, Text) else Text(visible(cell)) for cell in line] for line in lines]
    chosen, spare = kept(columns, [[text.plain for text in line] for line in texts], width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for place in chosen:
        column = columns[place]
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            max_width=column.least + spare if column.least else None,
            no_wrap=not (column.least and wrap),
            overflow="fold" if wrap else "ellipsis",
        )
    for line in texts:
        table.add_row(*(line[place] for place in chosen))
    return table


def kept(columns: Sequence[Column], lines: Sequence[Sequence[str]], width: int) -> tuple[list[int], int]:
    """Choose the columns that are shown, from left to right, and return how much of ``width`` they leave."""
    from rich.cells import cell_len

    needs, ranks = [], []
    for place, column in enumerate(columns):
        cells = [line[place] for line in lines]
        whole = max(map(cell_len, [column.name, *cells]))
        needs.append(min(whole, column.least) if column.least else whole)
        says = any(cell not in ("", "0") for cell in cells)
        ranks.append(column.rank if says or not column.rank else column.rank + len(columns))
    chosen = list(range(len(columns)))

    def spare() -> int:
        return width + GAP - sum(needs[place] + GAP for place in chosen)

    while spare() < 0 and any(ranks[place] for place in chosen):
        chosen.remove(max(chosen, key=lambda place: (ranks[place], place)))
    return chosen, max(spare(), 0)


def distinct(ids: Sequence[str], least: int = 8) -> dict[str, str]:
    """Shorten ids to one length, at least ``least``, at which no two different ones look the same.

    Ids that begin with a time, as LangChain's runs have them, share their first characters within a minute.
    """
    known = dict.fromkeys(ids)
    length = least
    while len({each[:length] for each in known}) < len(known):
        length += 1
    return {each: each[:length] for each in known}
