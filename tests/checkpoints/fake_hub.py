"""A hub on the loopback: the few routes that huggingface_hub asks, over real HTTP, with failures to order."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS = 4096  # bytes: larger files are served as the real hub serves LFS files, known by their SHA-256


@dataclass
class FakeHub:
    """Repositories by id; ``fail``: path pattern → statuses to answer first; ``cut``: names cut off so many times."""

    repos: dict[str, Path]
    fail: dict[str, list[int]] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    gated: set[str] = field(default_factory=set)
    log: list[tuple[str, str, str | None, int]] = field(default_factory=list)  # method, path, range, status

    def __post_init__(self):
        hub = self

        class Handler(_Handler):
            state = hub

        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def failure(self, path: str) -> int | None:
        with self._lock:
            for pattern, statuses in self.fail.items():
                if statuses and re.search(pattern, path):
                    return statuses.pop(0)
        return None

    def takes_cut(self, name: str) -> bool:
        with self._lock:
            self.cut[name] -= 1
            return self.cut[name] >= 0

    def served(self, what: str) -> list[tuple[str, str, str | None, int]]:
        """The log's GET requests whose path ends in ``what``."""
        return [entry for entry in self.log if entry[0] == "GET" and entry[1].endswith(what)]


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        status = self.state.failure(path)
        if status is not None:
            return self.reply(status, b"busy", {})
        for repo, folder in self.state.repos.items():
            if path.startswith((f"/api/models/{repo}", f"/{repo}/resolve/")):
                if repo in self.state.gated:
                    return self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
                if path.startswith("/api"):
                    return self.api(path.removeprefix(f"/api/models/{repo}"), repo, folder)
                revision, _, name = path.removeprefix(f"/{repo}/resolve/").partition("/")
                return self.file(folder / name) if self.known(revision) else None
        return self.reply(404 if path.startswith("/api") else 401, b"", {"X-Error-Code": "RepoNotFound"})

    def known(self, revision):
        if revision in ("main", "v1", COMMIT):
            return True
        self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return False

    def api(self, rest, repo, folder):
        kind, _, revision = rest.strip("/").partition("/")
        if kind and not self.known(revision):
            return
        files = sorted(p for p in folder.iterdir() if p.is_file())
        if kind == "tree":
            body = [self.entry(p) for p in files]
        else:
            body = {"id": repo, "sha": COMMIT, "siblings": [self.sibling(p) for p in files], "tags": []}
        self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def sibling(self, path):
        entry = self.entry(path)
        blob = {"rfilename": path.name, "size": entry["size"], "blobId": entry["oid"]}
        return blob | ({"lfs": entry["lfs"] | {"sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {})

    def entry(self, path):
        size, sha = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
        entry = {"type": "file", "path": path.name, "size": size, "oid": sha[:40]}
        return entry | ({"lfs": {"oid": sha, "size": size, "pointerSize": 134}} if size > LFS else {})

    def file(self, path):
        if not path.is_file():
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        data, sha = path.read_bytes(), hashlib.sha256(path.read_bytes()).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "ETag": f'"{sha if len(data) > LFS else sha[:40]}"',
        }
        if len(data) > LFS:
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": headers["ETag"]}
        start, end, status = 0, len(data), 200
        if wanted := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, status = int(wanted[1]), 206
            end = min(int(wanted[2]) + 1, end) if wanted[2] else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        header = self.headers.get("Range", "").startswith("bytes=0-1")
        cut = self.command == "GET" and not header and self.state.takes_cut(path.name)
        return self.reply(status, data[start:end], headers, cut=cut)

    def reply(self, status, body, headers, cut=False):
        self.state.log.append((self.command, urlsplit(self.path).path, self.headers.get("Range"), status))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True
