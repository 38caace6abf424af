"""Names on the Hugging Face hub, asked of a client that only notes what it was asked for."""

from __future__ import annotations

import re
from typing import Any

import huggingface_hub
from hypothesis import strategies as st

from cliptune.clip.weights.hub import hub_file
from tests.fuzz.campaign import REFUSED, campaign
from tests.fuzz.changes import ODD_TEXTS, changed_bytes


def test_names_on_the_hub(tmp_path, monkeypatch):
    asked: list[tuple[str, str | None]] = []
    blob = tmp_path / "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # Git's hash of no bytes
    blob.write_bytes(b"")

    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(blob)

    def noted(repository: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append((repository, revision))
        return str(snapshot)

    monkeypatch.setenv("CLIPTUNE_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", noted)
    seeds = [b"hf-hub:org/name", b"hf-hub:org/name@main", b"laion/CLIP-ViT-B-16@refs/pr/1", b"o/n@0123abcd"]
    changed = changed_bytes(seeds).map(lambda name: name.decode("utf-8", "replace"))
    parts = st.sampled_from([*ODD_TEXTS, "org", "a.b", "a--b", "x.git", "a" * 120, "name", "main", "a..b"])
    joined = st.tuples(parts, parts, parts).map(lambda p: f"hf-hub:{p[0]}/{p[1]}@{p[2]}")

    def read(case: str) -> Any:
        asked.clear()
        hub_file(case)
        assert len(set(asked)) == 1
        return asked[0]

    def plain(case: str) -> Any:
        """Two parts of plain letters, and a revision that climbs nowhere."""
        repository, _, revision = case.removeprefix("hf-hub:").partition("@")
        plain_parts = [re.match(r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z", part) for part in repository.split("/")]
        good = len(plain_parts) == 2 and all(plain_parts) and len(repository) <= 96
        good = good and not any(odd in repository for odd in ("..", "--")) and not repository.endswith(".git")
        if revision:
            good = good and re.match(r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,199}\Z", revision) and ".." not in revision
        return (repository, revision or None) if good else REFUSED

    campaign("names on the hub", st.one_of(changed, joined, st.text(max_size=20)), read, tmp_path, plain=plain)
