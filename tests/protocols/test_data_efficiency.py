from __future__ import annotations

import json

import pytest
import torch

from cliptune import build
from cliptune.data.selection import SELECTIONS, select
from cliptune.protocols import data_efficiency, data_efficient
from cliptune.protocols.data_efficiency import judge
from cliptune.texts import ClassSet

COOP = {"epochs": 1, "batch_size": 4, "lr": 0.05}
JUDGE = {"selector": "coop", "selector_options": {"batch_size": 4}}
SILENT = {"progress": "silent"}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_keeps_half_of_each_class(selection, tiny_clip, dataset):
    epochs = 2 if selection == "forgetting" else 0
    result = data_efficient(
        "zeroshot", tiny_clip, dataset, fraction=0.5, selection=selection, selector_epochs=epochs, **JUDGE, **SILENT
    )
    assert result["train_images"] == result["kept"]["images"] == 2 * 5
    assert result["kept"]["of"] == 4 * 5
    assert result["evaluations"]["test"]["n"] == len(dataset.test)


def test_what_is_kept_is_what_the_selector_says_at_its_start(tiny_clip, dataset, tmp_path):
    result = data_efficient(
        "coop",
        tiny_clip,
        dataset,
        fraction=0.25,
        selection="entropy",
        seed=2,
        out=tmp_path / "run",
        options=COOP,
        **JUDGE,
        **SILENT,
    )
    adapter = build("coop", tiny_clip, ClassSet(dataset.class_names, dataset.template), seed=2).adapter
    kept = select("entropy", judge(adapter, dataset.train), 0.25, seed=2)
    listed = json.loads((tmp_path / "run" / "split.json").read_text())["train"]
    assert [path for path, _, _ in listed] == [dataset.train.ids[i] for i in kept]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (result["protocol"], result["kept"]["selection"]) == ("data_efficient", "entropy")


def test_a_damaged_list_of_what_was_kept_is_a_sentence(tiny_clip, dataset, tmp_path):
    (tmp_path / "split.json").write_text('{"train": [')
    with pytest.raises(ValueError, match=r"split.json is not readable JSON.*overwrite=True"):
        data_efficient("coop", tiny_clip, dataset, fraction=0.5, out=tmp_path, options=COOP, **SILENT)


def test_a_run_that_is_taken_up_again_does_not_judge_again(tiny_clip, dataset, tmp_path, monkeypatch):
    def kept(**more):
        arguments = {
            "fraction": 0.5,
            "selection": "margin",
            "out": tmp_path / "run",
            "options": COOP,
            **JUDGE,
            **SILENT,
        }
        return data_efficient("coop", tiny_clip, dataset, **(arguments | more))

    first = kept()
    (tmp_path / "run" / "result.json").unlink()  # as if it had been stopped in training
    monkeypatch.setattr(data_efficiency, "judge", None)
    again = kept()
    assert (again["kept"], again["evaluations"]) == (first["kept"], first["evaluations"])
    with pytest.raises(TypeError):  # chosen in another way, it would be judged
        kept(seed=2)
    with pytest.raises(TypeError):  # replaced, perhaps on another backbone, it would be judged
        kept(overwrite=True)


def test_the_pool_is_what_the_adapter_answers(tiny_clip, dataset):
    adapter = build("zeroshot", tiny_clip, ClassSet(dataset.class_names, dataset.template)).adapter
    pool = judge(adapter, dataset.test)
    torch.testing.assert_close(
        pool.logits, tiny_clip.scale.item() * pool.image_features @ pool.text_features.T, atol=1e-4, rtol=1e-4
    )
    assert pool.labels.tolist() == dataset.test.labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"selection": "best"}, "selection must be one of uniform"),
        ({"selection": "forgetting", "selector_epochs": 1}, "selector_epochs must be at least 2, got 1"),
        ({"fraction": 0.0}, "above 0 and at most 1, got 0"),
        ({"fraction": 0.01}, "rounds to nothing; the largest has 4 images"),
        ({"selection": "cal", "selector": "cocoop"}, "one text per class that does not depend on the image"),
    ],
)
def test_wrong_requests_get_a_sentence(arguments, sentence, tiny_clip, dataset):
    with pytest.raises(ValueError, match=sentence):
        data_efficient("zeroshot", tiny_clip, dataset, **arguments, **SILENT)


def test_a_sampled_data_set_is_refused(tiny_clip, dataset):
    with pytest.raises(ValueError, match="sampled or cut already"):
        data_efficient("zeroshot", tiny_clip, dataset.few_shot(1, 1), **SILENT)
