"""What is missing or damaged when a run is explained: a sentence, and nothing that was there is lost."""

from __future__ import annotations

import builtins
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cliptune import protocols
from cliptune.cli.main import main
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain
from cliptune.report import report
from cliptune.runs import RunSpec, load
from tests.data.pictures import noise, write_classes


@pytest.fixture
def folder(tmp_path, tiny_clip):
    """A run on pictures in the folder `pictures`."""
    write_classes(tmp_path / "pictures", {"fish": 6, "star": 6})
    data = replace(DataSpec.found(str(tmp_path / "pictures")), shots=1)
    protocols.run(RunSpec("zeroshot", data), tmp_path / "run", clip=tiny_clip)
    return tmp_path / "run"


def files(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.fixture
def opened(tiny_clip):
    return lambda folder: OpenedRun(Path(folder), load(folder, clip=tiny_clip), images=100)


def test_a_picture_of_the_data_that_cannot_be_read_is_named(folder, opened):
    damaged = Path(opened(folder).split().items[0].path)
    Path(folder.parent / "pictures" / damaged).write_bytes(b"no picture")
    before = files(folder)
    answer = explain(opened(folder), ["confusion"])["confusion"]
    assert damaged.name in answer.why_not
    assert answer.why_not.endswith(".")
    assert files(folder) == before


@pytest.mark.parametrize("what", ["gone", "other classes"])
def test_a_page_of_a_run_without_its_data_says_why_it_has_no_figures(folder, opened, tmp_path, what):
    shutil.rmtree(tmp_path / "pictures")
    if what == "other classes":
        write_classes(tmp_path / "pictures", {"elk": 6, "newt": 6, "otter": 6})
    before = files(folder)
    page = report([folder], tmp_path / "page.html", what=["confusion", "classes"], opened=opened)
    text = page.read_text()
    assert "<figure" not in text
    assert "What could not be asked" in text
    assert ("other classes" in text or "elk" in text) if what == "other classes" else "pictures" in text
    assert files(folder) == before


def test_without_matplotlib_numbers_are_written_and_earlier_pictures_stay(runs, tmp_path, monkeypatch, capsys):
    picture = tmp_path.parent / f"{tmp_path.name}.png"
    noise(0).save(picture)
    asked = ["explain", str(runs("zeroshot")), "confusion", str(picture), "--images", "6", "--out", str(tmp_path)]
    (tmp_path / "classes.svg").write_text("mine")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(asked) == 0
    assert "pip install 'cliptune[report]'" in "".join(capsys.readouterr())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classes.svg",
        "confusion.json",
        f"image-{picture.stem}.json",
    ]
    assert (tmp_path / "classes.svg").read_text() == "mine"


def test_a_page_that_exists_is_kept_by_the_command(runs, tmp_path, capsys):
    (tmp_path / "page.html").write_text("mine")
    assert main(["report", str(runs("zeroshot")), "--out", str(tmp_path / "page.html")]) != 0
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "page.html").read_text() == "mine"
