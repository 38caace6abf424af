from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cliptune import build, evaluate, fit
from cliptune.data import Dataset, Split, from_images
from cliptune.protocols import cross_dataset, domain_generalization, few_shot, transfer
from cliptune.protocols.transfer import usual_targets
from cliptune.runs.manifest import write_result
from cliptune.texts import ClassSet

COOP = {"epochs": 2, "batch_size": 4, "lr": 0.05}
SILENT = {"progress": "silent"}


def elsewhere(name: str, class_names: tuple[str, ...], seed: int, template: str = "a sketch of a {}.") -> Dataset:
    """A target with two test pictures per class."""
    labels = list(range(len(class_names))) * 2
    pictures = torch.rand(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return from_images(pictures, labels, class_names, test=(pictures, labels), name=name, template=template)


@pytest.fixture
def cars() -> Dataset:
    return elsewhere("cars", ("old van", "red truck", "bus"), 1)


@pytest.fixture
def drawn(dataset) -> Dataset:
    """The source's classes in other pictures."""
    return elsewhere("drawn", dataset.class_names, 2)


@pytest.fixture
def some(dataset) -> Dataset:
    """Three of the source's classes, in another order of labels than there."""
    return elsewhere("some", dataset.class_names[1:4], 3)


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """Grows with each training that is not found finished."""
    from cliptune.training.loop import Training

    begun, whole = [], Training.run
    monkeypatch.setattr(Training, "run", lambda self: (begun.append(self.recipe.method), whole(self))[1])
    return begun


def test_a_target_is_asked_among_its_own_names_without_training_on_it(tiny_clip, dataset, cars, drawn, tmp_path):
    arguments = {"shots": 2, "seed": 3, "options": COOP, **SILENT}
    result = cross_dataset("coop", tiny_clip, dataset, [cars, drawn], out=tmp_path / "run", **arguments)
    data = dataset.few_shot(2, 3)
    recipe = build("coop", tiny_clip, ClassSet(data.class_names, data.template), seed=3, **COOP)
    adapter = fit(recipe, data, seed=3, progress="silent").adapter
    scores = {name: numbers["accuracy"] for name, numbers in result["evaluations"].items()}
    assert list(scores) == ["test", "cars/test", "drawn/test"]
    assert scores["test"] == evaluate(adapter, data.test).accuracy
    for target in (cars, drawn):
        adapter.set_classes(ClassSet(target.class_names, target.template))
        assert scores[f"{target.name}/test"] == evaluate(adapter, target.test).accuracy
    assert set(result["evaluations"]["cars/test"]["per_class"]) == set(cars.class_names)
    assert result["targets"]["cars/test"]["split_sha256"] == cars.split_sha256
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_another_domain_is_asked_in_the_sources_words_and_only_for_the_classes_it_has(tiny_clip, dataset, some):
    result = domain_generalization("zeroshot", tiny_clip, dataset, [some], shots=1, **SILENT)
    adapter = build("zeroshot", tiny_clip, ClassSet(some.class_names, dataset.template)).adapter
    assert result["evaluations"]["some/test"] == evaluate(adapter, some.test).summary()
    assert result["targets"]["some/test"]["template"] == dataset.template


def test_one_training_serves_few_shot_cross_and_domains(tiny_clip, dataset, cars, drawn, some, tmp_path, trainings):
    arguments = {"shots": 2, "out": tmp_path / "run", "options": COOP, **SILENT}
    first = few_shot("coop", tiny_clip, dataset, **arguments)
    cross = cross_dataset("coop", tiny_clip, dataset, [cars], **arguments)
    both = domain_generalization("coop", tiny_clip, dataset, [drawn, some], **arguments)
    assert trainings == ["coop"]
    assert first["evaluations"].items() <= cross["evaluations"].items() <= both["evaluations"].items()
    protocols = {name: note["protocols"] for name, note in both["targets"].items()}
    assert protocols == {"cars/test": ["cross"], "drawn/test": ["domains"], "some/test": ["domains"]}


def test_what_is_scored_is_not_scored_again_unless_the_target_has_changed(
    tiny_clip, dataset, cars, drawn, tmp_path, monkeypatch
):
    scored, score = [], transfer.score

    def counted(run, name, *rest, **more):
        scored.append(name) if name not in run.result["evaluations"] else None
        return score(run, name, *rest, **more)

    monkeypatch.setattr(transfer, "score", counted)
    arguments = {"shots": 2, "out": tmp_path / "run", "options": COOP, **SILENT}
    whole = cross_dataset("coop", tiny_clip, dataset, [cars, drawn], **arguments)
    path = tmp_path / "run" / "result.json"
    halved = json.loads(path.read_text())
    del halved["evaluations"]["drawn/test"]  # as if it had been stopped there
    write_result(tmp_path / "run", halved)
    assert cross_dataset("coop", tiny_clip, dataset, [cars, drawn], **arguments) == whole
    assert scored == ["cars/test", "drawn/test", "drawn/test"]
    other = elsewhere("cars", cars.class_names, 9)
    changed = cross_dataset("coop", tiny_clip, dataset, [other, drawn], **arguments)
    assert scored[3:] == ["cars/test"]
    assert changed["targets"]["cars/test"]["split_sha256"] == other.split_sha256


def test_what_was_asked_in_other_words_is_asked_again(tiny_clip, cars):
    result = {"evaluations": {}}
    told = lambda words: {kind: {name: [words] for name in cars.class_names} for kind in ("des", "dist")}
    described = ClassSet(cars.class_names, cars.template, told("it is big"))
    bigger = described.with_descriptions(told("it is very big"))
    for classes in (described, bigger, bigger.with_template("a {}.")):
        adapter = build("attrvr", tiny_clip, classes, nearest=1).adapter
        result["evaluations"]["cars/test"] = {"accuracy": 50.0}
        transfer.note_target(result, "cars/test", None, cars, adapter)
        assert not result["evaluations"], classes
        result["evaluations"]["cars/test"] = {"accuracy": 50.0}
        transfer.note_target(result, "cars/test", "domains", cars, adapter)
        assert result["evaluations"], classes
        assert result["targets"]["cars/test"]["protocols"] == ["domains"]
    # A method that looks at no descriptions does not mind which there are.
    result["evaluations"]["cars/test"] = {"accuracy": 50.0}
    for classes in (described, bigger):
        transfer.note_target(result, "cars/test", None, cars, build("zeroshot", tiny_clip, classes).adapter)
        result["evaluations"]["cars/test"] = {"accuracy": 50.0}
    assert len(result["evaluations"]) == 1


def test_a_method_with_values_per_class_knows_other_pictures_of_all_its_classes_and_nothing_else(
    tiny_clip, dataset, cars, drawn, some
):
    cross = cross_dataset("linear_probe", tiny_clip, dataset, [cars], shots=2, **SILENT)
    assert list(cross["evaluations"]) == ["test"]
    assert "knows no others" in cross["why_no_targets"]
    shifted = domain_generalization("linear_probe", tiny_clip, dataset, [drawn, some], shots=2, **SILENT)
    assert list(shifted["evaluations"]) == ["test", "drawn/test"]


def test_wrong_targets_get_a_sentence_before_anything_runs(tiny_clip, dataset, cars, drawn, tmp_path):
    untested = replace(cars, test=Split.empty())
    for protocol, targets, sentence in (
        (cross_dataset, [], "there are no targets"),
        (cross_dataset, [untested], "cars has no test images"),
        (cross_dataset, [cars, cars], "cars is given more than once"),
        (cross_dataset, [replace(cars, name=dataset.name)], "is the source itself"),
        (domain_generalization, [drawn, cars], r"cars has 3 classes that images has not, such as 'old van'.*Use cross"),
    ):
        with pytest.raises(ValueError, match=sentence):
            protocol("zeroshot", tiny_clip, dataset, targets, shots=1, out=tmp_path / "run", **SILENT)
    assert not Path(tmp_path / "run").exists()


def test_usual_targets_are_the_fields_and_tinyworlds():
    assert len(usual_targets("cross", "ImageNet")) == 10
    assert usual_targets("domains", "imagenet") == ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"]
    shifted = usual_targets("domains", "tinyworld/garden")
    assert "tinyworld/garden-sketch" in shifted
    assert len(shifted) == 7
    assert "tinyworld/garden" not in usual_targets("cross", "tinyworld/garden")
    back = usual_targets("domains", "tinyworld/garden-sketch")
    assert {"tinyworld/garden", "tinyworld/garden-sketch"} ^ set(back) ^ set(shifted) == set()
    assert "tinyworld/garden" not in usual_targets("cross", "tinyworld/garden-sketch")
    with pytest.raises(ValueError, match="no targets are usual for the source 'photos'.*--targets"):
        usual_targets("cross", "photos")


def test_variants_of_imagenet_are_asked_for_the_classes_that_they_have(tiny_clip, tmp_path):
    from cliptune.data import load_data
    from tests.data.published import miniatures

    miniatures.imagenet(tmp_path)
    miniatures.imagenet_sketch(tmp_path)
    miniatures.two_hundred("imagenet-adversarial", "imagenet-a")(tmp_path)
    source, sketch, some = (load_data(name, tmp_path) for name in ("imagenet", "imagenet_sketch", "imagenet_a"))
    result = domain_generalization("zeroshot", tiny_clip, source, [sketch, some], shots=1, **SILENT)
    classes = {name: len(numbers["per_class"]) for name, numbers in result["evaluations"].items()}
    assert classes == {"test": 4, "imagenet_sketch/test": 4, "imagenet_a/test": 2}
