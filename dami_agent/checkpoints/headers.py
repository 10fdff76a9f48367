"""Read safetensors headers: which tensors a checkpoint holds, their shapes, dtypes and files. No weight is read.

Sharded (``model.safetensors.index.json``) or not; what is missing or cut off is an error that names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dami_agent.checkpoints.guard import AGAIN, guarded, read_json
from dami_agent.errors import CheckpointError, CheckpointNotFound, UnsupportedCheckpoint

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
BITS = {"F64": 64, "F32": 32, "BF16": 16, "F16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
BITS |= {"U64": 64, "U32": 32, "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64}
FLOATS = frozenset({"F64", "F32", "BF16", "F16"})
HASHED_WHOLE = (
    64 << 20
)  # bytes: smaller files are identified by all of their content, so that a copy keeps its identity
BLOCK, SAMPLES = 4096, 64  # bytes read at a time, and how often, to see whether two stored tensors are one


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Describes one stored tensor: ``shape``, ``dtype`` as safetensors names it (``BF16``), ``file`` in the folder."""

    shape: tuple[int, ...]
    dtype: str
    file: str

    @property
    def nbytes(self) -> int:
        """Count the bytes the tensor takes in the file."""
        return math.prod(self.shape) * BITS.get(self.dtype, 8) // 8

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def weight_files(folder: Path) -> tuple[str, ...]:
    """Name the safetensors files that make up the checkpoint, chosen as transformers does; empty: there are none.

    A folder of small files alone (a hub checkpoint before its weights are fetched) is asked for its index.

    Raises:
        CheckpointNotFound: shards without the index that says which tensor is where.
    """
    if (folder / SINGLE).is_file():
        return (SINGLE,)
    if (folder / INDEX).is_file():
        return tuple(sorted(set(_weight_map(folder).values())))
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if files:
        raise CheckpointNotFound(
            f"{folder} holds {files[0]}, but neither {SINGLE} nor {INDEX}, which say where the weights are",
            hint="copy the index too, or load and save the checkpoint once with transformers' save_pretrained",
        )
    return ()


def read_tensors(folder: Path) -> Mapping[str, TensorEntry]:
    """Read name → entry of every stored tensor from the headers alone.

    Raises:
        CheckpointNotFound: a shard is missing, or the index names a tensor its shard does not hold.
        CheckpointError: a file is cut off or otherwise no safetensors file.
    """
    tensors: dict[str, TensorEntry] = {}
    for name in weight_files(folder):
        if not (folder / name).is_file():
            raise CheckpointNotFound(
                f"{folder / name} is missing: {INDEX} names it", hint="download or copy that shard"
            )
        tensors |= _read_header(folder / name)
    return complete(folder, tensors)


def complete(folder: Path, tensors: Mapping[str, TensorEntry]) -> Mapping[str, TensorEntry]:
    """Return ``tensors`` if they are those that the folder's index (if there is one) promises.

    Raises:
        CheckpointNotFound: a tensor that the index promises is in none of the files, or in another one.
    """
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        for name, file in _weight_map(folder).items():
            if name not in tensors or tensors[name].file != file:
                raise CheckpointNotFound(
                    f"{folder / INDEX} places tensor {name!r} in {file}, which does not hold it",
                    hint="index and shards are of different checkpoints; " + AGAIN,
                )
    return MappingProxyType(dict(tensors))


def _weight_map(folder: Path) -> dict[str, str]:
    """Read tensor → file name; a name that leads out of the folder is refused."""
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(f, str) for f in weight_map.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map from tensor to file", hint=AGAIN)
    for file in set(weight_map.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise UnsupportedCheckpoint(
                f"{folder / INDEX} names {file!r}, which is not a safetensors file of this folder",
                hint="save the checkpoint again with transformers' save_pretrained",
            )
    return weight_map


def _read_header(path: Path) -> dict[str, TensorEntry]:
    from safetensors import safe_open

    if not path.is_file():
        raise CheckpointNotFound(f"{path} is not a regular file", hint=AGAIN)
    what = f"{path} ({path.stat().st_size} bytes) is not a complete safetensors file"
    # "numpy" needs no torch; slices are lazy, so that only the header is touched. The library checks that header and
    # file size agree.
    with guarded(what, hint=AGAIN), safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  no dict: it has no __iter__
        return {n: TensorEntry(tuple(s.get_shape()), str(s.get_dtype()), path.name) for n, s in slices.items()}


def stored_alike(folder: Path, tensors: Mapping[str, TensorEntry], a: str, b: str) -> bool:
    """Tell whether two stored tensors hold the same values, by ``SAMPLES`` evenly spread blocks of their bytes.

    For weights that a config ties: training that touched one of them changed nearly all of it.

    Args:
        folder: where the files lie.
        tensors: name → entry of every stored tensor.
        a, b: names of the two.
    """
    if (tensors[a].shape, tensors[a].dtype) != (tensors[b].shape, tensors[b].dtype):
        return False
    size, starts = tensors[a].nbytes, []
    for name in (a, b):
        with (folder / tensors[name].file).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            starts.append(8 + length + json.loads(file.read(length))[name]["data_offsets"][0])
    with (folder / tensors[a].file).open("rb") as left, (folder / tensors[b].file).open("rb") as right:
        for offset in range(0, size, max(BLOCK, size // SAMPLES)):
            count = min(BLOCK, size - offset)
            left.seek(starts[0] + offset)
            right.seek(starts[1] + offset)
            if left.read(count) != right.read(count):
                return False
    return True


def identity(path: Path) -> str:
    """Compute a short text that changes with the file's content, without reading gigabytes.

    A hub file is known by its blob's name (its hash on the hub); a small one by its SHA-256; a large one by size,
    time of change and header.
    """
    target = path.resolve()
    if target.parent.name == "blobs" and path.is_symlink():
        return f"blob:{target.name}"
    stat = path.stat()
    if stat.st_size <= HASHED_WHOLE:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with path.open("rb") as file:
        length = min(int.from_bytes(file.read(8), "little"), HASHED_WHOLE)
        header = hashlib.sha256(file.read(length)).hexdigest()
    return f"stat:{stat.st_size}:{stat.st_mtime_ns}:{header}"
