"""Data sets and backbones that installed distributions bring."""

from __future__ import annotations

import sys

import pytest

import cliptune
from cliptune.data import list_data

CODE = """
import cliptune
def rooms(root=None, shape="plain"): return cliptune.load_data("tinyworld/objects")
def small(): return cliptune.load_clip("mini")
def wrong(*_): return 7
"""


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    info = tmp_path / "fake-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[cliptune.data]\nrooms = fake_parts:rooms\nwrong = fake_parts:wrong\ngone = fake_gone:rooms\n"
        "[cliptune.backbones]\nsmall = fake_parts:small\nwrong = fake_parts:wrong\n",
        encoding="utf-8",
    )
    (tmp_path / "fake_parts.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("fake_parts", None)


def test_data_of_an_entry_point():
    assert {"name": "rooms", "summary": "installed: fake_parts:rooms"} in list_data()
    data = cliptune.load_data("rooms", shots=2, classes="base")
    assert len(data.train) == 2 * len(data.class_names)
    with pytest.raises(TypeError, match="no option 'shap'. Did you mean 'shape'"):
        cliptune.load_data("rooms", shap="round")
    with pytest.raises(ValueError, match="must return a Dataset, got int"):
        cliptune.load_data("wrong")
    with pytest.raises(ValueError, match="'gone' .* cannot be imported"):
        cliptune.load_data("gone")


def test_a_backbone_of_an_entry_point_and_its_run(tmp_path):
    clip = cliptune.load_clip("small")
    assert clip.name == "small"
    data = cliptune.load_data("rooms", shots=1)
    cliptune.fit(
        cliptune.build("coop", clip, data.class_names, epochs=1), data, out=tmp_path / "run", progress="silent"
    )
    assert cliptune.load(tmp_path / "run").clip.name == "small"
    with pytest.raises(ValueError, match="expected a CLIP of cliptune, got int"):
        cliptune.load_clip("wrong")
