"""Answers image by image beside a run's result."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from cliptune.data.items import Item, Split
from cliptune.data.sources import MemorySource
from cliptune.protocols import few_shot
from cliptune.runs import Predictions, load, read_predictions, read_result
from cliptune.runs.file_names import PREDICTIONS
from cliptune.runs.predictions import _file_name, write_predictions
from cliptune.training import evaluate, fit
from tests.training.support import recipe, squares


def answers(n: int = 40, classes: int = 7, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    labels, predicted = (torch.randint(classes, (n,), generator=generator) for _ in range(2))
    return Predictions(labels, predicted, torch.rand(n, generator=generator), "a" * 64, "b" * 64, "c" * 64)


def entered(folder, name: str, predictions: Predictions) -> None:
    """A result that mentions the answers, as a run writes it."""
    evaluation = {"accuracy": 1.0, "predictions": write_predictions(folder, name, predictions)}
    (folder / "result.json").write_text(json.dumps({"evaluations": {name: evaluation}}))


def test_a_run_keeps_what_it_answered_to_every_image(tiny_clip, tmp_path):
    data = squares()
    run = fit(recipe(tiny_clip), data, tmp_path, progress="silent")
    numbers = evaluate(run.adapter, data.test, keep_logits=True)
    run.add("test", numbers)
    kept = read_predictions(tmp_path, "test")
    assert torch.equal(kept.predicted, numbers.logits.argmax(-1))
    assert torch.equal(kept.labels, data.test.labels)
    true = torch.stack([row.softmax(-1)[label] for row, label in zip(numbers.logits, data.test.labels, strict=True)])
    assert torch.allclose(kept.probability, true, atol=1e-3)  # half precision
    assert 100 * kept.right.double().mean().item() == pytest.approx(numbers.accuracy)
    assert kept.split_sha256 == data.test.sha256()


def test_a_protocol_and_eval_keep_them_and_eval_gives_the_same_file(tiny_clip, tmp_path):
    from cliptune.protocols.scoring import enter

    few_shot("coop", tiny_clip, squares(), out=tmp_path, shots=2, options={"epochs": 1, "batch_size": 4})
    noted = read_result(tmp_path)["evaluations"]["test"]["predictions"]
    assert noted["file"] == "predictions/test.safetensors"
    result = read_result(tmp_path)
    enter(tmp_path, result, "test", evaluate(load(tmp_path, clip=tiny_clip), squares().test))
    assert read_result(tmp_path)["evaluations"]["test"]["predictions"] == noted
    assert len(read_predictions(tmp_path, "test")) == 12


def test_names_and_order_of_images_and_classes_are_told_apart():
    source = MemorySource(torch.zeros(2, 3, 4, 4))
    items = [Item("x", 0, "cat"), Item("y", 1, "dog")]
    logits = torch.eye(2)
    one = Predictions.of(logits, Split(items, source), ("cat", "dog"))
    turned = Predictions.of(logits, Split(items[::-1], source), ("cat", "dog"))
    renamed = Predictions.of(logits, Split(items, source), ("cat", "cow"))
    assert len({one.images_sha256, turned.images_sha256}) == 2
    assert one.images_sha256 == renamed.images_sha256
    assert one.classes_sha256 != renamed.classes_sha256


@pytest.mark.parametrize("classes", [100, 70_000])
def test_many_images_take_little_room_and_come_back_equal(tmp_path, classes):
    whole = answers(50_000, classes)
    entered(tmp_path, "test", whole)
    kept = read_predictions(tmp_path, "test")
    assert torch.equal(kept.labels, whole.labels)
    assert torch.equal(kept.predicted, whole.predicted)
    assert torch.allclose(kept.probability, whole.probability, atol=5e-4)
    assert (tmp_path / "predictions" / "test.safetensors").stat().st_size <= 2 * 2**20


def test_equal_answers_give_equal_files(tmp_path):
    notes = [write_predictions(tmp_path / name, "test", answers()) for name in "abcdef"]
    assert len({note["sha256"] for note in notes}) == 1


def test_names_of_files_are_safe_and_tell_evaluations_apart():
    names = ["test", "new", "tinyworld/garden/test", "test (bf16)", "test-bf16", "new (ω=0.5)", "../../x", "Größe/test"]
    files = [_file_name(name) for name in names]
    assert files[:2] == ["test", "new"]
    assert len(set(files)) == len(names)
    assert all(file.isascii() and "/" not in file and not file.startswith(".") for file in files)


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    entered(tmp_path, "test", answers())
    with pytest.raises(ValueError, match="has no evaluation 'new'; it has 'test'"):
        read_predictions(tmp_path, "new")
    path = tmp_path / "predictions" / "test.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="is not the file that result.json was written with"):
        read_predictions(tmp_path, "test")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_predictions(tmp_path, "test")


def test_results_of_before_have_none(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"evaluations": {"test": {"accuracy": 50.0}}}))
    assert read_predictions(tmp_path, "test") is None


def test_a_file_of_something_else_is_a_sentence(tmp_path):
    import hashlib

    (tmp_path / "x").write_bytes(b"nothing of the kind")
    noted = {"file": "x", "sha256": hashlib.sha256(b"nothing of the kind").hexdigest()}
    (tmp_path / "result.json").write_text(json.dumps({"evaluations": {"test": {"predictions": noted}}}))
    with pytest.raises(ValueError, match="holds no predictions"):
        read_predictions(tmp_path, "test")


@pytest.mark.parametrize("noted", ["test.safetensors", {"file": "x"}, 3])
def test_a_result_that_says_nothing_sensible_is_a_sentence(tmp_path, noted):
    (tmp_path / "result.json").write_text(json.dumps({"evaluations": {"test": {"predictions": noted}}}))
    with pytest.raises(ValueError, match="does not say where the answers of 'test' lie"):
        read_predictions(tmp_path, "test")


def test_a_result_never_mentions_answers_that_are_not_there(tiny_clip, tmp_path, monkeypatch):
    data = squares()
    run = fit(recipe(tiny_clip, epochs=1), data, tmp_path, progress="silent")
    numbers = evaluate(run.adapter, data.test)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="the disk is full"):
            run.add("test", numbers)
    assert read_result(tmp_path)["evaluations"] == {}
    assert not list((tmp_path / PREDICTIONS).glob("*"))


def test_a_run_that_is_replaced_loses_its_answers(tiny_clip, tmp_path):
    data = squares()
    run = fit(recipe(tiny_clip, epochs=1), data, tmp_path, progress="silent")
    run.add("test", evaluate(run.adapter, data.test))
    (tmp_path / PREDICTIONS / ".test.safetensors.half").write_bytes(b"")
    fit(recipe(tiny_clip, epochs=1), data, tmp_path, progress="silent", overwrite=True)
    assert not list((tmp_path / PREDICTIONS).iterdir())
