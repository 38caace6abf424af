from __future__ import annotations

import json
from pathlib import Path

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import CLASSES, PICTURES, spoken, write_flat

STEMS = {Path(name).stem: label for name, label in PICTURES.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"classes": None, "labels": STEMS},
        {"classes": None, "labels": {stem: {"label": label, "confidence": 0.5} for stem, label in STEMS.items()}},
        {"classes": list(CLASSES), "labels": {stem: CLASSES.index(label) for stem, label in STEMS.items()}},
    ],
    ids=["names", "with confidence", "places in classes"],
)
def test_image_classification_datasets(tmp_path, read, content):
    """As the exporter of fiftyone 1.22.1 writes them: `data/` and `labels.json`."""
    write_flat(tmp_path / "data")
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert read(tmp_path) == spoken("data/")
    assert read(tmp_path / "labels.json") == spoken("data/")


def samples(**further: object) -> list[dict]:
    return [
        {
            **{"filepath": f"data/{name}", "tags": ["train" if i % 4 < 3 else "test", "seen"], "metadata": None},
            "ground_truth": {"_id": {"$oid": "0"}, "_cls": "Classification", "tags": [], "label": label},
            **further,
        }
        for i, (name, label) in enumerate(PICTURES.items())
    ]


def test_whole_datasets_with_splits_in_their_tags(tmp_path):
    write_flat(tmp_path / "data")
    (tmp_path / "metadata.json").write_text(json.dumps({"name": "pets"}))
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples()}))
    data = load_data(tmp_path)
    names = [f"data/{name}" for name in PICTURES]
    assert list(data.train.ids) == [name for i, name in enumerate(names) if i % 4 < 3]
    assert list(data.test.ids) == names[3::4]


def test_the_field_can_be_said_and_unlabelled_samples_are_passed_over(tmp_path, read):
    write_flat(tmp_path / "data")
    content = samples(guess={"_cls": "Classification", "label": "puma"})
    del content[0]["ground_truth"]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": content}))
    data = load_data(tmp_path)
    assert any("1 picture was passed over, since it has no label: data/lynx0.png" in note for note in data.notes)
    assert set(read(tmp_path, columns={"label": "guess"}).values()) == {"puma"}
    with pytest.raises(ValueError, match=r"expected one field .* got 2 \(ground_truth, guess\)"):
        load_data(tmp_path, columns="label=colour")


@pytest.mark.parametrize("label", [True, 3, -1, "", [], {"x": 1}])
def test_odd_labels_are_refused(tmp_path, label):
    write_flat(tmp_path / "data")
    (tmp_path / "labels.json").write_text(json.dumps({"classes": list(CLASSES), "labels": {**STEMS, "lynx0": label}}))
    with pytest.raises(ValueError, match="lynx0: expected the name of a class or its place among 3 classes"):
        load_data(tmp_path)
