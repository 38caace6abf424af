"""One picture explained, from Python and from the command line."""

from __future__ import annotations

import json

import pytest

from cliptune.analysis.prm import contributions
from cliptune.batch import Batch
from cliptune.cli.main import main
from cliptune.data import read_image
from cliptune.explain import explain_image
from cliptune.images import as_batch

CAUSES = {"data": "tinyworld/one_cause_colour", "epochs": 2, "lr": 10.0}


def picture(run, path):
    run.split().image(0).save(path)
    return path


def test_answer_runners_up_causes_and_descriptions(opened, tmp_path):
    run = opened("dvp_cse", images=6, **CAUSES)
    answer = explain_image(run, picture(run, tmp_path / "one.png"))
    found, adapter = answer.found, run.adapter
    image = as_batch([read_image(tmp_path / "one.png")], adapter.resolution)
    best = adapter(Batch.of(image)).logits[0].softmax(-1).topk(3)
    assert [name for name, _ in found.answers] == [adapter.class_names[i] for i in best.indices]
    assert [p for _, p in found.answers] == pytest.approx(best.values.tolist(), rel=1e-4)
    added = contributions(adapter, Batch.of(image))[0]
    for row, values in zip(added, found.causes.values(), strict=True):
        assert values == pytest.approx(row[best.indices].tolist(), rel=1e-4, abs=1e-5)
    assert set(found.descriptions) == {name for name, _ in found.answers}
    first = found.descriptions[found.answers[0][0]]
    assert [cosine for _, cosine in first] == sorted((cosine for _, cosine in first), reverse=True)
    assert found.overlay is None  # it draws on the pixels
    assert list(answer.pictures) == ["answer", "causes"]
    assert "speaks most for it" in answer.sentence


def test_the_command_writes_what_it_says(opened, tmp_path, capsys):
    run = opened("coop", images=6)
    path = picture(run, tmp_path / "one.png")
    assert (
        main(["explain", str(run.folder), str(path), "confusion", "--images", "6", "--out", str(tmp_path / "x")]) == 0
    )
    said = capsys.readouterr().out
    assert "image-one: one.png is named" in said
    assert "confusion:" in said
    assert {file.name for file in (tmp_path / "x").iterdir()} == {
        *("image-one.json", "image-one.svg", "confusion.json", "confusion.svg")
    }
    noted = json.loads((tmp_path / "x" / "image-one.json").read_text())
    assert len(noted["found"]["answers"]) == 3
    assert noted["found"]["overlay"]["after"]


@pytest.mark.parametrize("name", ["missing.png", "broken.png"])
def test_a_picture_that_cannot_be_read_is_a_sentence_and_nothing_is_written(opened, tmp_path, capsys, name):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    run = opened("coop", images=6)
    assert main(["explain", str(run.folder), str(tmp_path / name), "--out", str(tmp_path / "x")]) != 0
    assert name in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
