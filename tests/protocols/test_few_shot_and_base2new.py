from __future__ import annotations

import json

import pytest

from cliptune import build, evaluate, fit
from cliptune.data import from_images
from cliptune.protocols import base2new, few_shot
from cliptune.runs.manifest import write_result
from cliptune.texts import ClassSet

COOP = {"epochs": 2, "batch_size": 4, "lr": 0.05}
SILENT = {"progress": "silent"}


def test_few_shot_trains_on_the_picks_and_scores_on_the_whole_test_split(tiny_clip, dataset, tmp_path):
    result = few_shot("coop", tiny_clip, dataset, shots=2, seed=3, out=tmp_path / "run", options=COOP, **SILENT)
    data = dataset.few_shot(2, 3)
    recipe = build("coop", tiny_clip, ClassSet(data.class_names, data.template), seed=3, **COOP)
    plain = evaluate(fit(recipe, data, seed=3, progress="silent").adapter, data.test)
    assert result["evaluations"]["test"]["accuracy"] == plain.accuracy
    assert result["train_images"] == 10
    assert result["protocol"] == "few_shot"
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_few_shot_of_one_half_is_named_by_it(tiny_clip, dataset):
    result = few_shot("zeroshot", tiny_clip, dataset, shots=2, classes="new", **SILENT)
    assert list(result["evaluations"]) == ["new"]
    assert result["evaluations"]["new"]["n"] == 2 * 3


def test_without_test_images_the_validation_images_are_scored(tiny_clip, dataset):
    from dataclasses import replace

    from cliptune.data import Split

    untested = replace(dataset, test=Split.empty())
    assert list(few_shot("zeroshot", tiny_clip, untested, shots=2, **SILENT)["evaluations"]) == ["val"]
    alone = replace(untested, val=Split.empty())
    assert few_shot("zeroshot", tiny_clip, alone, shots=2, **SILENT)["evaluations"] == {}


def test_base2new_asks_each_half_among_its_own_names_only(tiny_clip, dataset, tmp_path):
    result = base2new("coop", tiny_clip, dataset, seed=2, shots=2, out=tmp_path / "run", options=COOP, **SILENT)
    sampled = dataset.few_shot(2, 2)
    base, new = sampled.subset("base"), sampled.subset("new")
    recipe = build("coop", tiny_clip, ClassSet(base.class_names, base.template), seed=2, **COOP)
    adapter = fit(recipe, base, seed=2, progress="silent").adapter
    assert result["train_images"] == 3 * 2
    assert result["base"] == evaluate(adapter, base.test).accuracy
    adapter.set_classes(ClassSet(new.class_names, new.template))
    assert result["new"] == evaluate(adapter, new.test).accuracy
    b, n = result["base"], result["new"]
    assert result["harmonic_mean"] == pytest.approx(2 * b * n / (b + n) if b * n else 0)
    assert set(result["evaluations"]["base"]["per_class"]) == set(dataset.class_names[:3])
    assert set(result["evaluations"]["new"]["per_class"]) == set(dataset.class_names[3:])
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_base2new_of_a_method_with_values_per_class_has_no_new_number(tiny_clip, dataset):
    result = base2new("linear_probe", tiny_clip, dataset, shots=2, **SILENT)
    assert result["new"] is None
    assert result["harmonic_mean"] is None
    assert "knows no others" in result["why_no_new"]
    assert result["learnables"] == 3 * (16 + 1)


def test_a_finished_protocol_is_returned_and_a_half_scored_one_is_completed(tiny_clip, dataset, tmp_path):
    first = base2new("coop", tiny_clip, dataset, shots=2, out=tmp_path / "run", options=COOP, **SILENT)
    path = tmp_path / "run" / "result.json"
    halved = json.loads(path.read_text())
    del halved["evaluations"]["new"], halved["new"], halved["harmonic_mean"]
    write_result(tmp_path / "run", halved)
    again = base2new("coop", tiny_clip, dataset, shots=2, out=tmp_path / "run", options=COOP, **SILENT)
    assert again == first


def test_base2new_without_new_test_images_is_refused(tiny_clip):
    images = [[0.1] * 3, [0.9] * 3]
    import torch

    pixels = torch.tensor(images)[:, :, None, None].expand(2, 3, 32, 32)
    data = from_images(pixels, [0, 1], ["dark", "bright"], test=(pixels[:1], [0]))
    with pytest.raises(ValueError, match="no test images of its new classes"):
        base2new("zeroshot", tiny_clip, data, shots=1, **SILENT)
