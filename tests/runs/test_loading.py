from __future__ import annotations

import json

import pytest
import torch

from cliptune.protocols import few_shot, training
from cliptune.runs import load, loading, open_backbone
from cliptune.texts import ClassSet
from tests.conftest import TINY, random_clip, without_manifest

METHODS = {"coop": {"epochs": 1}, "vpt": {"epochs": 1}, "maple": {"epochs": 1}, "linear_probe": {}, "zeroshot": {}}


@pytest.mark.parametrize("method", METHODS)
def test_an_opened_run_gives_the_logits_of_the_trained_adapter(method, tiny_clip, dataset, tmp_path, images):
    from cliptune import build, fit

    data = dataset.few_shot(2, 1)
    classes = ClassSet(data.class_names, data.template)
    run = fit(build(method, tiny_clip, classes, **METHODS[method]), data, tmp_path / "run", progress="silent")
    opened = load(tmp_path / "run", clip=tiny_clip)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))
    assert opened.classes == classes
    assert not opened.training


def test_an_opened_run_speaks_of_other_classes(tiny_clip, dataset, tmp_path, images):
    few_shot("coop", tiny_clip, dataset, shots=2, out=tmp_path / "run", options={"epochs": 1}, progress="silent")
    opened = load(tmp_path / "run", clip=tiny_clip).set_classes(["cat", "dog"])
    assert opened.logits(images).shape == (3, 2)


def test_a_run_can_teach_by_its_folder(tiny_clip, dataset, tmp_path, images, monkeypatch):
    monkeypatch.setattr("cliptune.runs.loading.open_backbone", lambda *named: tiny_clip)
    few_shot("coop", tiny_clip, dataset, shots=2, out=tmp_path / "a", options={"epochs": 1}, progress="silent")
    teacher = str(tmp_path / "a")
    options = {"epochs": 1, "batch_size": 4, "teacher": teacher}
    few_shot("promptkd", tiny_clip, dataset, shots=2, out=tmp_path / "b", options=options, progress="silent")
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert result["flags"]["external_models"][0].startswith("teacher: coop epochs=1 on tiny (")
    # Its texts came along: it opens where its teacher is gone.
    assert load(tmp_path / "b", clip=tiny_clip).logits(images).shape == (3, 5)


def test_a_backbone_that_was_never_a_file_must_be_given(tiny_clip, dataset, tmp_path):
    few_shot("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path / "run", progress="silent")
    with pytest.raises(ValueError, match=r"built in memory.*clip="):
        load(tmp_path / "run")


@pytest.mark.parametrize(
    ("origin", "name", "expected"),
    [
        ({"source": "mini", "activation": "quick_gelu"}, "mini", ("mini",)),
        ({"source": "openai", "activation": "quick_gelu"}, "ViT-B/16", ("ViT-B/16", "openai")),
        ({"source": "hf-hub:org/clip@abc", "activation": "gelu"}, "org/clip", ("hf-hub:org/clip@abc",)),
    ],
)
def test_a_backbone_is_opened_from_where_it_came(monkeypatch, origin, name, expected):
    asked = []
    clip = random_clip()

    def opened(*names, activation, **heads):
        asked.append((names, activation))
        return clip

    monkeypatch.setattr("cliptune.runs.loading.load_clip", opened)
    sizes = {"head_width": 64, "image_head_width": None}
    open_backbone({"name": name, "sizes": sizes, "origin": origin}, "runs/x")
    assert asked == [(expected, origin["activation"])]


def test_wrong_folders_are_explained(tiny_clip, dataset, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="is a file"):
        load(tmp_path / "file")
    few_shot("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path / "some" / "run", progress="silent")
    with pytest.raises(FileNotFoundError, match=r"There are runs in it, such as .*some/run"):
        load(tmp_path)
    (tmp_path / "some" / "run" / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        load(tmp_path / "some" / "run")


def test_another_format_version_and_another_backbone_are_refused(tiny_clip, tiny_resnet, dataset, tmp_path):
    few_shot("zeroshot", tiny_clip, dataset, shots=2, out=tmp_path / "run", progress="silent")
    with pytest.raises(ValueError, match="trained on the backbone 'tiny'"):
        load(tmp_path / "run", clip=tiny_resnet)
    path = without_manifest(tmp_path / "run") / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        load(tmp_path / "run", clip=tiny_clip)


def test_a_student_trained_on_base_classes_speaks_of_new_ones_when_it_is_opened_again(tiny_clip, dataset, tmp_path):
    base, quick = dataset.few_shot(2, 1).subset("base"), {"epochs": 1, "batch_size": 2}
    given = {"protocol": "few_shot", "progress": "silent"}
    training.train("coop", tiny_clip, base, out=tmp_path / "teacher", options=quick, **given)
    teacher = loading.load(tmp_path / "teacher", clip=tiny_clip)
    training.train(
        "promptkd", tiny_clip, base, out=tmp_path / "student", options={**quick, "teacher": teacher}, **given
    )
    student = loading.load(tmp_path / "student", clip=tiny_clip)
    new = dataset.subset("new").class_names
    expected = teacher.set_classes(new, template=dataset.template).text_features()
    torch.testing.assert_close(student.set_classes(new).text_features(), expected)


def test_patterns_are_the_same_on_another_backbone(tiny_clip, tiny_resnet, dataset, tmp_path, images):
    from dataclasses import replace

    few_shot("vp", tiny_clip, dataset, shots=2, out=tmp_path / "run", options={"epochs": 1}, progress="silent")
    other = random_clip(replace(TINY, image_width=24, text_width=32, image_layers=2), seed=4)
    there, here = loading.load_on(tmp_path / "run", other), load(tmp_path / "run", clip=tiny_clip)
    assert torch.equal(there.prompt.program(), here.prompt.program())
    assert there.clip is other
    views = other.normalise(images)[:, None] + there.prompt.spread(there.prompt.program())
    features = torch.nn.functional.normalize(other.encode_image(views), dim=-1)
    expected = (other.scale * features @ there.text_features().mT)[:, 0]
    torch.testing.assert_close(there.logits(images), expected)


@pytest.mark.parametrize("method", ["tip_adapter", "linear_probe", "gda", "proker", "ape", "ss_text", "taskres"])
def test_features_of_another_backbone_are_refused_though_their_shapes_fit(method, tiny_clip, dataset, tmp_path):
    options = {"epochs": 1} if method == "taskres" else {}
    few_shot(method, tiny_clip, dataset, shots=2, out=tmp_path / "run", options=options, progress="silent")
    with pytest.raises(ValueError, match=rf"what {method} learned on tiny cannot .* stands among the features of tiny"):
        loading.load_on(tmp_path / "run", random_clip(TINY, seed=4))


@pytest.mark.parametrize("method", ["vp", "coop"])
def test_what_does_not_fit_another_backbone_says_which_shape(method, tiny_clip, dataset, tmp_path):
    from dataclasses import replace

    few_shot(method, tiny_clip, dataset, shots=2, out=tmp_path / "run", options={"epochs": 1}, progress="silent")
    other = random_clip(replace(TINY, resolution=64, text_width=32))
    with pytest.raises(ValueError, match=rf"what {method} learned on tiny does not fit .*must have shape"):
        loading.load_on(tmp_path / "run", other)
