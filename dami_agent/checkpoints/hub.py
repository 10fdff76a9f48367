"""Fetch a hub id into the Hugging Face cache with ``huggingface_hub``: its progress bars, its resumption.

What this file adds: which files are wanted, a refusal before gigabytes are fetched, patience with a flaky network,
and errors that say what to do. ``HF_HUB_OFFLINE``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_ENDPOINT`` work as ever.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dami_agent.checkpoints import refusals
from dami_agent.checkpoints.checkpoint import RemoteWeights
from dami_agent.checkpoints.guard import read_json
from dami_agent.checkpoints.headers import SINGLE, TensorEntry, weight_files
from dami_agent.errors import CheckpointNotFound

logger = logging.getLogger(__name__)
T = TypeVar("T")

SMALL = ["*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
ELSEWHERE = ["*/*"]  # ONNX, original/ and other copies of the weights in folders of their own
ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds; doubles each time, with jitter
LONGEST_WAIT = 20.0


def looks_like_hub_id(source: str) -> bool:
    """Tell whether a text reads as ``owner/name`` or ``name``, not as a path; folders are looked for before."""
    return not source.startswith((".", "/", "~")) and "\\" not in source and source.count("/") <= 1


@dataclass(frozen=True)
class Hub:
    """Says where and how the hub is asked; every field is huggingface_hub's own, None leaves it to its environment."""

    cache_dir: str | Path | None = None
    local_files_only: bool | None = None
    token: str | bool | None = None
    endpoint: str | None = None

    def fetch(self, source: str, revision: str | None = None) -> tuple[Path, str]:
        """Download what is not in the cache yet; small files first, so that an unusable checkpoint costs no gigabytes.

        A hub that cannot be reached is no error where the cache holds the checkpoint: a warning says so.

        Returns:
            The snapshot folder and the commit it is of.

        Raises:
            CheckpointNotFound: no such id or revision, no access, or not reachable and not in the cache.
            UnsupportedCheckpoint: by its file list or its config.
        """
        folder = self._look(source, revision)
        if isinstance(folder, list):
            self._small(source, revision, folder)
            folder = _patiently(source, revision, lambda: self._download(source, revision, SMALL + WEIGHTS))
        return folder, folder.name

    def preview(self, source: str, revision: str | None = None) -> tuple[Path, str, RemoteWeights | None]:
        """Fetch all but the weights; of those not in the cache only the headers are read, over the network.

        Returns:
            Folder, commit, and what the hub says about the weights; None if the folder holds them.
        """
        seen = self._look(source, revision)
        if isinstance(seen, Path):
            return seen, seen.name, None
        folder = self._small(source, revision, seen)
        names = weight_files(folder) or ((SINGLE,) if SINGLE in seen else ())
        if not names or all((folder / name).is_file() for name in names):
            return *self.fetch(source, revision), None
        remote = _patiently(source, revision, lambda: self._headers(source, folder.name, names))
        return folder, folder.name, remote

    def _look(self, source: str, revision: str | None) -> Path | list[str]:
        """List the hub's files; or, when it cannot or may not be asked, find the folder in the cache."""
        from huggingface_hub import HfApi, constants

        offline = constants.HF_HUB_OFFLINE if self.local_files_only is None else self.local_files_only

        def look() -> Path | list[str]:
            if offline:
                return self._download(source, revision, SMALL + WEIGHTS, local=True)
            try:
                info = HfApi(endpoint=self.endpoint, token=self.token).model_info(source, revision=revision)
            except Exception as error:
                if not is_transient(error):
                    raise
                with contextlib.suppress(FileNotFoundError):
                    folder = self._download(source, revision, SMALL + WEIGHTS, local=True)
                    logger.warning("%s: the hub is out of reach (%s), using the cached %s", source, error, folder.name)
                    return folder
                raise
            return [file.rfilename for file in info.siblings or () if "/" not in file.rfilename]

        return _patiently(source, revision, look)

    def _small(self, source: str, revision: str | None, names: list[str]) -> Path:
        """Refuse by file names, fetch all but the weights, refuse by config."""
        refusals.refuse_files(names, source)
        folder = _patiently(source, revision, lambda: self._download(source, revision, SMALL))
        if (folder / "config.json").is_file():
            refusals.refuse_config(read_json(folder / "config.json"), source)
        return folder

    def _download(self, source: str, revision: str | None, patterns: list[str], *, local: bool = False) -> Path:
        from huggingface_hub import snapshot_download

        options: dict[str, Any] = {"allow_patterns": patterns, "ignore_patterns": ELSEWHERE, "local_files_only": local}
        options |= {"cache_dir": self.cache_dir, "token": self.token, "endpoint": self.endpoint}
        return Path(snapshot_download(source, revision=revision, **options))

    def _headers(self, source: str, commit: str, names: Iterable[str]) -> RemoteWeights | None:
        """Read the headers of files on the hub (a few hundred kB); None if they cannot be read that way."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import SafetensorsParsingError

        tensors: dict[str, TensorEntry] = {}
        api = HfApi(endpoint=self.endpoint, token=self.token)
        files = api.model_info(source, revision=commit, files_metadata=True).siblings or ()
        blobs = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in files}
        for name in names:
            try:
                header = api.parse_safetensors_file_metadata(source, name, revision=commit)
            except SafetensorsParsingError as error:
                logger.warning("%s: the header of %s cannot be read on the hub: %s", source, name, error)
                return None
            tensors |= {k: TensorEntry(tuple(t.shape), str(t.dtype), name) for k, t in header.tensors.items()}
        return RemoteWeights(tensors, {name: f"blob:{blobs.get(name)}" for name in names})


def _patiently(source: str, revision: str | None, call: Callable[[], T]) -> T:
    """Run ``call``, again after transient failures only; turn the library's errors into ours."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from tenacity import (
        Retrying,
        before_sleep_log,
        retry_if_exception,
        stop_after_attempt,
        wait_exponential,
        wait_random,
    )

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + wait_random(0, FIRST_WAIT),
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )
    try:
        return retrying(call)
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, _http_error(), OSError) as error:
        raise _translated(source, revision, error) from error


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again may help: the network, a busy or failing server; not a wrong id, revision or token."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError):  # "not in the cache, and could not ask": look at why not
        return error.__cause__ is not None and is_transient(error.__cause__)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status in (408, 425, 429) or status >= 500
    return isinstance(error, (_http_error(), ConnectionError, TimeoutError))


def _http_error() -> type[Exception]:
    """Find the base of the HTTP client's errors, which differs between versions of huggingface_hub."""
    from huggingface_hub import errors

    return errors.HTTPError  # type: ignore[attr-defined]


def _translated(source: str, revision: str | None, error: Exception) -> CheckpointNotFound:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{source!r}" + (f" at revision {revision!r}" if revision else "")
    if isinstance(error, HFValidationError):
        return CheckpointNotFound(
            f"{source!r} is neither an existing folder nor a hub id",
            hint="a hub id looks like Qwen/Qwen3-4B-Instruct-2507",
        )
    if isinstance(error, GatedRepoError):
        hint = "accept the terms on the checkpoint's page, then log in: hf auth login (or set HF_TOKEN)"
        return CheckpointNotFound(f"access to {where} is gated", hint=hint)
    if isinstance(error, RevisionNotFoundError):
        return CheckpointNotFound(f"{source!r} has no revision {revision!r}", hint="give a branch, tag or commit of it")
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointNotFound(
            f"no folder and no hub checkpoint is named {source!r}",
            hint="check the spelling; a private one needs a token (hf auth login, or HF_TOKEN)",
        )
    if isinstance(error, LocalEntryNotFoundError) and (constants.HF_HUB_OFFLINE or error.__cause__ is None):
        hint = "unset HF_HUB_OFFLINE, or fetch it on a connected machine: hf download " + source
        return CheckpointNotFound(
            f"{where} is not in the local cache, and the hub is not asked (offline mode)", hint=hint
        )
    reason = error.__cause__ or error
    return CheckpointNotFound(
        f"{where} could not be fetched from {constants.ENDPOINT}: {type(reason).__name__}: {reason}",
        hint="check the network and the proxy; run again, a started download is resumed",
    )
