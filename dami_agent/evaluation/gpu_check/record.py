"""Keep what was found in one JSON file, written whole after every row, which a second run goes on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.files import write_whole

RUNNING = "running"
"""Status of a part that was cut off with the whole command: it runs again."""
GOOD = ("passed", "skipped")


@dataclass(slots=True)
class Record:
    """Holds the parts by name.

    Attributes:
        path: of the file.
        asked: what all parts of one file share: device and shapes.
        parts: name → status, rows, seconds, error, device, versions, commit.
    """

    path: Path
    asked: Mapping[str, str]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, asked: Mapping[str, str]) -> Record:
        """Read the file, or begin one.

        Raises:
            UsageError: it cannot be read or written, or holds what was asked otherwise.
        """
        if not path.parent.is_dir():
            raise UsageError(f"{path.parent} is no folder", hint="name a file in one with --output")
        if not path.exists():
            return cls(path, asked)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            parts, before = found["parts"], found["asked"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{path} does not hold earlier results: {error}", hint="name another file") from error
        if before != asked:
            raise UsageError(f"{path} holds results for {before}, not for {dict(asked)}", hint="name another --output")
        return cls(path, asked, parts)

    def has(self, name: str) -> bool:
        """Return whether a part has run to its end, whatever that was."""
        return name in self.parts and self.parts[name]["status"] != RUNNING

    def put(self, name: str, part: dict[str, Any]) -> None:
        """Keep what is known of a part, on disk too."""
        self.parts[name] = part
        content = {"asked": dict(self.asked), "parts": self.parts}
        write_whole(self.path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
