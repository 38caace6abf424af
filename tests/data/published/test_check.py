from __future__ import annotations

from pathlib import Path

import pytest

from cliptune.data.published.check import check_published
from cliptune.data.published.facts import published
from cliptune.data.published.plan import plan_published
from tests.data.published.miniatures import MINIATURES


def states(check, state: str) -> list[str]:
    return [finding.text for finding in check.findings if finding.state == state]


@pytest.mark.parametrize("name", MINIATURES)
def test_every_layout_is_checked(name, tmp_path):
    MINIATURES[name](tmp_path)
    check = check_published(name, tmp_path)
    assert check.usable
    assert not check.as_published  # a miniature has other counts
    counts = {count.what: (count.found, count.known) for count in check.counts}
    assert counts["classes"][1] == published()[name].classes
    assert sum(check.modes.values()) == sum(counts[f"{split} images"][0] for split in ("train", "val", "test"))


def test_modes_side_cars_and_checksums_are_told(tmp_path):
    for name in ("caltech101", "dtd", "ucf101"):
        MINIATURES[name](tmp_path)
    assert check_published("caltech101", tmp_path).modes == {"RGB": 34, "L": 1}
    assert check_published("dtd", tmp_path).modes["CMYK"] == 1
    ucf = check_published("ucf101", tmp_path)
    assert any("1 side-car files" in text for text in states(ucf, "note"))
    assert any("checksum" in text for text in states(ucf, "differs"))


def test_missing_and_corrupt_pictures_are_listed_together(tmp_path):
    MINIATURES["oxford_pets"](tmp_path)
    images = tmp_path / "oxford_pets/images"
    (images / "Bengal_1.jpg").unlink()
    (images / "Bengal_2.jpg").write_bytes(b"")
    whole = (images / "Abyssinian_1.jpg").read_bytes()
    (images / "Abyssinian_1.jpg").write_bytes(whole[: len(whole) // 2])
    seen = []
    check = check_published("pets", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert not check.usable
    assert states(check, "missing") == ["1 listed pictures: Bengal_1.jpg"]
    assert sorted(text.split(" ")[2] for text in states(check, "corrupt")) == ["cannot", "is"]
    assert seen[-1] == (20, 20)
    quick = check_published("pets", tmp_path, decode=False)
    assert states(quick, "corrupt") == []
    assert quick.modes == {}


def test_what_cannot_be_read_is_a_finding_and_no_crash(tmp_path):
    nothing = check_published("dtd", tmp_path)
    assert "expected the pictures in the folder" in states(nothing, "missing")[0]
    MINIATURES["dtd"](tmp_path)
    split = tmp_path / "dtd/split_zhou_DescribableTextures.json"
    split.write_text("[]")
    assert "lists train, val and test" in states(check_published("dtd", tmp_path), "corrupt")[0]
    split.unlink()
    assert "expected the split file" in states(check_published("dtd", tmp_path), "missing")[0]


def test_counts_that_agree_are_as_published(tmp_path, monkeypatch):
    from dataclasses import replace

    from cliptune.data.published import check, reading

    MINIATURES["sun397"](tmp_path)
    small = replace(
        published()["sun397"],
        classes=3,
        counts={"train": 12, "val": 3, "test": 6},
        smallest_train_class=4,
        base_new_test=(4, 2),
    )
    monkeypatch.setattr(check, "facts", lambda name: small)
    monkeypatch.setattr(reading, "facts", lambda name: small)
    outcome = check_published("sun397", tmp_path)
    assert outcome.as_published
    assert ("first new class", "outdoor ice skating rink") in [(c.what, c.found) for c in outcome.counts]


@pytest.mark.parametrize("name", MINIATURES)
def test_a_plan_says_what_is_there_already(name, tmp_path):
    assert not any(step.present for step in plan_published(name, tmp_path))
    assert all(step.present is None for step in plan_published(name))
    MINIATURES[name](tmp_path)
    there = [step for step in plan_published(name, tmp_path) if step.present]
    assert there
    folder = Path(tmp_path / published()[name].places[0].folder)
    assert all(step.target.startswith(str(folder)) for step in there)
    assert any("split" in step.what for step in there) == (published()[name].split_file is not None)
