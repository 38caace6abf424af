"""OpenAI's nine: sizes, names, the cache, and downloads from a small server that can break."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from pathlib import Path

import pytest
import torch

from cliptune.clip import CLIP
from cliptune.clip.weights import download, openai
from cliptune.clip.weights.download import fetch
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.openai import CHECKSUMS, OPENAI_CONFIGS, archive_file, canonical_name
from tests.clip.weights.checkpoints import HEAD_WIDTH, openai_tensors, same_weights, save_torchscript

PARAMETERS = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336px": 427_944_193,
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home without weights, and a network that must not be needed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLIPTUNE_CACHE", raising=False)
    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def archive(tiny_clip, tmp_path_factory) -> Path:
    return save_torchscript(openai_tensors(tiny_clip), tmp_path_factory.mktemp("published") / "ViT-B-16.pt")


@pytest.fixture
def published(archive, monkeypatch, tiny_clip) -> str:
    """ViT-B/16 is, for a test, the small archive: its checksum and sizes."""
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(CHECKSUMS, "ViT-B/16", checksum)
    return checksum


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_model_has_its_number_of_parameters(name):
    with torch.device("meta"):
        clip = CLIP(OPENAI_CONFIGS[name], name=name)
    assert sum(p.numel() for p in clip.parameters()) == PARAMETERS[name]
    assert PARAMETERS.keys() == OPENAI_CONFIGS.keys() == CHECKSUMS.keys()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-B/16", "ViT-B/16"),
        ("ViT-B-16", "ViT-B/16"),
        ("vit_b16", "ViT-B/16"),
        ("ViT-B-32-quickgelu", "ViT-B/32"),
        ("ViT-L/14@336px", "ViT-L/14@336px"),
        ("ViT-L-14-336", "ViT-L/14@336px"),
        ("rn50X4", "RN50x4"),
        ("ViT-B/17", None),
        ("", None),
    ],
)
def test_names_are_known_in_any_spelling(spelling, name):
    assert canonical_name(spelling) == name


def test_archive_names_are_openais():
    assert [archive_file(name) for name in ("RN50x64", "ViT-B/16", "ViT-L/14@336px")] == [
        "RN50x64.pt",
        "ViT-B-16.pt",
        "ViT-L-14-336px.pt",
    ]


@pytest.mark.parametrize("place", [".cache/cliptune/openai", ".cache/clip"])
@pytest.mark.parametrize("pretrained", [None, "openai"])
def test_archive_is_found_in_both_caches(home, archive, published, tiny_clip, place, pretrained, monkeypatch):
    monkeypatch.setitem(OPENAI_CONFIGS, "ViT-B/16", tiny_clip.config)
    (home / place).mkdir(parents=True)
    (home / place / "ViT-B-16.pt").write_bytes(archive.read_bytes())
    clip = load_clip("ViT-B-16", pretrained, head_width=HEAD_WIDTH)
    assert same_weights(clip, {k: v.half() for k, v in openai_tensors(tiny_clip).items()})
    assert clip.name == "ViT-B/16"
    assert clip.origin == {
        "source": "openai",
        "file": "ViT-B-16.pt",
        "sha256": published,
        "layout": "openai",
        "activation": "quick_gelu",
        "activation_from": "OpenAI's archive",
    }


@pytest.mark.parametrize("variable", ["CLIPTUNE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_mode_says_what_to_put_where(home, monkeypatch, variable):
    monkeypatch.delenv("CLIPTUNE_OFFLINE")
    monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("CLIPTUNE_CACHE", str(home / "elsewhere"))
    sentence = (
        rf"offline mode is on .*Put ViT-L-14-336px\.pt \(SHA-256 {CHECKSUMS['ViT-L/14@336px']}\) at "
        rf"{re.escape(str(home))}/elsewhere/openai/ViT-L-14-336px\.pt or .*/\.cache/clip/ViT-L-14-336px\.pt; "
        r"it comes from https://openaipublic\.azureedge\.net/clip/models/3035c92b.*/ViT-L-14-336px\.pt"
    )
    with pytest.raises(FileNotFoundError, match=sentence):
        load_clip("ViT-L/14@336px")


def test_wrong_file_in_our_cache_is_named(home):
    wrong = home / ".cache/cliptune/openai/RN50.pt"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"another file")
    with pytest.raises(ValueError, match=r"RN50\.pt should be OpenAI's RN50 with SHA-256 afeb0e.*delete it"):
        load_clip("RN50")
    assert wrong.exists()


def test_wrong_file_in_openais_cache_is_passed_over(home):
    wrong = home / ".cache/clip/RN50.pt"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match="offline mode is on"):
        load_clip("RN50")


# -- downloads -----------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; can drop connections after some bytes, ignore ranges, or answer with an error."""

    content: bytes
    drops: int = 0
    ranges: bool = True
    error: int = 0
    asked: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        if server.error:
            self.send_error(server.error)
            return
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.drops:
            server.drops -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the tests quiet."""


@pytest.fixture
def server(archive):
    with Server(("127.0.0.1", 0), Handler) as running:
        running.content, running.asked = archive.read_bytes(), []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def source(server) -> tuple[str, str]:
    url = f"http://127.0.0.1:{server.server_address[1]}/ViT-B-16.pt"
    return url, hashlib.sha256(server.content).hexdigest()


def test_name_is_downloaded_once_and_then_cached(home, monkeypatch, server, published, tiny_clip, capfd):
    monkeypatch.delenv("CLIPTUNE_OFFLINE")
    monkeypatch.setattr(openai, "_SOURCE", f"http://127.0.0.1:{server.server_address[1]}")
    for _ in range(2):
        clip = load_clip("ViT-B/16", head_width=HEAD_WIDTH)
    assert same_weights(clip, {k: v.half() for k, v in openai_tensors(tiny_clip).items()})
    assert server.asked == [None]
    assert [p.name for p in (home / ".cache/cliptune/openai").iterdir() if p.suffix != ".lock"] == ["ViT-B-16.pt"]
    assert capfd.readouterr().err.startswith("downloading ViT-B-16.pt (")


def test_broken_connection_goes_on_where_it_stopped(tmp_path, server, source):
    server.drops = 2
    size = len(server.content)
    assert fetch(source[0], tmp_path / "x.pt", source[1]).read_bytes() == server.content
    assert server.asked == [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]


def test_download_that_keeps_breaking_keeps_what_arrived(tmp_path, server, source):
    server.drops = 3
    with pytest.raises(OSError, match=r"could not download http.*ended after \d+ of \d+ bytes.*start the same"):
        fetch(source[0], tmp_path / "x.pt", source[1])
    assert not (tmp_path / "x.pt").exists()
    assert (tmp_path / "x.pt.part").stat().st_size > 0
    assert fetch(source[0], tmp_path / "x.pt", source[1]).read_bytes() == server.content


def test_server_without_ranges_starts_anew(tmp_path, server, source):
    server.ranges = False
    (tmp_path / "x.pt.part").write_bytes(server.content[:1000])
    assert fetch(source[0], tmp_path / "x.pt", source[1]).read_bytes() == server.content


@pytest.mark.parametrize("left", [b"something else", None], ids=["other bytes", "whole"])
def test_leftovers_are_checked(tmp_path, server, source, left):
    (tmp_path / "x.pt.part").write_bytes(server.content if left is None else left)
    assert fetch(source[0], tmp_path / "x.pt", source[1]).read_bytes() == server.content


def test_wrong_checksum_is_refused_and_deleted(tmp_path, source):
    with pytest.raises(ValueError, match=rf"should have SHA-256 0{{64}}, but what arrived has {source[1]}"):
        fetch(source[0], tmp_path / "x.pt", "0" * 64)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_server_error_and_no_server_are_sentences(tmp_path, server, source):
    server.error = 404
    with pytest.raises(OSError, match=r"could not download .*404.*put the file at .*x\.pt yourself"):
        fetch(source[0], tmp_path / "x.pt", source[1])
    with pytest.raises(OSError, match=r"could not download http://127\.0\.0\.1:9/"):
        fetch("http://127.0.0.1:9/x.pt", tmp_path / "x.pt", source[1])


def test_full_disk_is_a_sentence(tmp_path, source, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(OSError, match=r"could not write .*x\.pt: the disk is full"):
        fetch(source[0], tmp_path / "x.pt", source[1])


def test_offline_words(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for value, expected in (("1", True), ("true", True), ("0", False), ("", False), ("No", False)):
        monkeypatch.setenv("CLIPTUNE_OFFLINE", value)
        assert download.offline() is expected
