"""Hub ids, with the real huggingface_hub code against a server on the loopback that fails to order."""

from __future__ import annotations

import filecmp
import json
import logging
import re

import pytest
from huggingface_hub import constants
from huggingface_hub import file_download as library
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dami_agent.checkpoints import CheckpointPair, hub
from dami_agent.cli.app import app
from dami_agent.errors import CheckpointNotFound, IncompatiblePair, UnsupportedCheckpoint
from tests.checkpoints.fake_hub import COMMIT, FakeHub
from tests.pairs import edit_json

A, B = "acme/Tiny-Instruct", "acme/Tiny-Thinking"


@pytest.fixture
def online(copied, tmp_path, monkeypatch):
    """A running hub with a sharded pair, and how to open it with a cache of this test's own."""
    monkeypatch.setattr(hub, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(hub, "LONGEST_WAIT", 0.02)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    instruct, thinking = copied(shards=3)
    with FakeHub({A: instruct, B: thinking}) as server:
        server.cache = tmp_path / "cache"
        server.open = lambda a=A, b=B, **kw: CheckpointPair.open(
            a, b, **{"cache_dir": server.cache, "endpoint": server.endpoint, "token": False} | kw
        )
        yield server


def assert_same_files(checkpoint, folder):
    names = [p.name for p in folder.iterdir()]
    assert sorted(p.name for p in checkpoint.path.iterdir()) == sorted(names)
    assert filecmp.cmpfiles(checkpoint.path, folder, names, shallow=False)[0] == names


def test_two_ids_become_a_pair(online):
    pair = online.open()
    assert pair.name == f"{A}+{B}"
    assert pair.instruct.source == A
    assert pair.instruct.revision == COMMIT
    assert_same_files(pair.instruct, online.repos[A])
    assert_same_files(pair.thinking, online.repos[B])


def test_opened_again_nothing_is_fetched_again(online):
    first = online.open()
    online.log.clear()
    assert online.open().fingerprint == first.fingerprint
    assert not [entry for entry in online.log if "/resolve/" in entry[1] and entry[0] == "GET"]


def test_a_folder_and_an_id_may_be_mixed(online):
    pair = online.open(a=online.repos[A], revision="v1")
    assert pair.instruct.revision is None
    assert pair.thinking.revision == COMMIT


def test_only_what_is_needed_is_fetched(online):
    for name in ("pytorch_model.bin", "model.onnx", "README.md", "training_args.bin"):
        (online.repos[A] / name).write_bytes(b"x" * 100)
    (online.repos[A] / "onnx").mkdir()
    (online.repos[A] / "onnx" / "model.safetensors").write_bytes(b"x")
    online.open()
    fetched = {path.rsplit("/", 1)[-1] for method, path, *_ in online.log if method == "GET" and "/resolve/" in path}
    assert not fetched & {"pytorch_model.bin", "model.onnx", "README.md", "training_args.bin"}


class TestFailures:
    @pytest.mark.parametrize("status", [503, 429])
    def test_a_busy_hub_is_asked_again(self, online, status, caplog):
        online.fail = {
            rf"^/api/models/{A}$": [status, status],
            r"/tree/": [status],
            r"/resolve/.*config\.json": [status],
        }
        with caplog.at_level(logging.WARNING, logger="dami_agent.checkpoints.hub"):
            assert_same_files(online.open().instruct, online.repos[A])
        online.fail.pop(r"/tree/")  # not every version of the library asks for it
        assert not any(online.fail.values())
        assert "Retrying" in caplog.text

    def test_a_transfer_cut_off_is_resumed_where_it_stopped(self, online, monkeypatch):
        monkeypatch.setattr(library.time, "sleep", lambda _: None)  # type: ignore[attr-defined]  # the library's own second between attempts
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 512)  # as if the shard were larger than its 10 MB
        shard = min(online.repos[A].glob("*.safetensors"))
        online.cut[shard.name] = 2
        assert_same_files(online.open(b=online.repos[B]).instruct, online.repos[A])
        ranges = [entry[2] for entry in online.served(f"{A}/resolve/{COMMIT}/{shard.name}")]
        size = shard.stat().st_size
        assert ranges[:2] == ["bytes=0-100000", None]  # its header, then all of it
        starts = [int(r.removeprefix("bytes=").removesuffix("-")) for r in ranges[2:]]
        assert [s / size for s in starts] == pytest.approx([0.5, 0.75], abs=0.05)  # half of it, half of the rest

    def test_it_gives_up_after_a_while_and_says_so(self, online):
        online.fail = {rf"^/api/models/{A}$": [503] * 100}
        with pytest.raises(CheckpointNotFound, match=rf"{A}.*could not be fetched.*503"):
            online.open()
        assert len([e for e in online.log if e[3] == 503]) == hub.ATTEMPTS

    @pytest.mark.parametrize("status", [400, 403])
    def test_a_refusal_is_final(self, online, status):
        online.fail = {rf"^/api/models/{A}$": [status] * 100}
        with pytest.raises(CheckpointNotFound):
            online.open()
        assert len([e for e in online.log if e[3] == status]) == 1

    def test_no_such_id(self, online):
        with pytest.raises(CheckpointNotFound, match="acme/Nothing") as caught:
            online.open(a="acme/Nothing")
        assert "spelling" in caught.value.hint

    def test_no_such_revision(self, online):
        with pytest.raises(CheckpointNotFound, match="no revision 'v9'"):
            online.open(revision="v9")

    def test_gated(self, online):
        online.gated.add(B)
        with pytest.raises(CheckpointNotFound, match=f"{B}.*gated") as caught:
            online.open()
        assert "hf auth login" in caught.value.hint

    def test_not_an_id_at_all(self, online):
        with pytest.raises(CheckpointNotFound, match="neither an existing folder nor a hub id"):
            online.open(a="what is this?")


class TestOffline:
    def test_the_cache_is_enough(self, online, monkeypatch):
        first = online.open()
        online.log.clear()
        assert online.open(local_files_only=True).fingerprint == first.fingerprint
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert online.open().fingerprint == first.fingerprint
        assert online.log == []

    def test_without_the_cache_it_says_how_to_fill_it(self, online):
        with pytest.raises(CheckpointNotFound, match=r"not in the local cache.*offline") as caught:
            online.open(local_files_only=True)
        assert "hf download" in caught.value.hint
        assert online.log == []

    def test_a_hub_that_is_down_does_not_matter_once_cached(self, online, caplog):
        first = online.open()
        online.fail = {"": [503] * 100}
        with caplog.at_level(logging.WARNING, logger="dami_agent.checkpoints.hub"):
            assert online.open().fingerprint == first.fingerprint
        assert "using the cached" in caplog.text

    def test_nobody_listens(self, tmp_path, monkeypatch):
        monkeypatch.setattr(hub, "FIRST_WAIT", 0.01)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        with FakeHub({}) as server:
            endpoint = server.endpoint
        with pytest.raises(CheckpointNotFound, match="could not be fetched") as caught:
            CheckpointPair.open(A, B, cache_dir=tmp_path, endpoint=endpoint)
        assert "network" in caught.value.hint


class TestRefusedBeforeTheWeights:
    """Of a refused pair no more than file headers has been fetched: small byte ranges, and nothing in the cache."""

    def weights_fetched(self, server):
        kept = [p for p in server.cache.rglob("*") if p.suffix in (".safetensors", ".gguf")]
        whole = [e for e in server.served(".safetensors") + server.served(".gguf") if e[2] != "bytes=0-100000"]
        return kept + whole

    def test_a_pair_that_does_not_fit(self, online):
        edit_json(online.repos[A] / "config.json", rms_norm_eps=0.125)
        with pytest.raises(IncompatiblePair, match="rms_norm_eps"):
            online.open()
        assert not self.weights_fetched(online)
        assert online.served(".safetensors")

    def test_a_missing_tensor(self, online):
        """Seen in the headers on the hub, in one shard of several."""
        shard = max(online.repos[B].glob("*.safetensors"))
        tensors = load_file(shard)
        name, _ = tensors.popitem()
        save_file(tensors, shard, metadata={"format": "pt"})
        with pytest.raises(CheckpointNotFound, match=re.escape(name)):
            online.open()
        assert not self.weights_fetched(online)

    def test_the_doctor_looks_at_headers_alone(self, online, monkeypatch):
        # What HF_ENDPOINT and HF_HUB_CACHE set when the library is imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, online.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", online.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(online.cache))
        done = CliRunner().invoke(app, ["doctor", A, B, "--json"])
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert data["instruct"]["downloaded"] is False
        assert data["plan"]["mode"] == "mixed"
        assert not self.weights_fetched(online)
        assert data["fingerprint"] == online.open().fingerprint  # the same, once downloaded

    def test_quantised(self, online):
        edit_json(online.repos[A] / "config.json", quantization_config={"quant_method": "fp8"})
        with pytest.raises(UnsupportedCheckpoint, match="FP8"):
            online.open()
        assert not self.weights_fetched(online)

    def test_gguf(self, online):
        for file in online.repos[A].glob("*.safetensors"):
            file.rename(file.with_suffix(".gguf"))
        with pytest.raises(UnsupportedCheckpoint, match="GGUF"):
            online.open()
        assert not self.weights_fetched(online)
