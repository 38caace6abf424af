from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from cliptune.data import load_data
from cliptune.data.items import SPLITS

COUNTS = {"train": 8, "val": 3, "test": 5}


def arrays(colour: bool = False) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shape = (28, 28, 3) if colour else (28, 28)
    images = {f"{s}_images": draw.integers(0, 256, (n, *shape), dtype=np.uint8) for s, n in COUNTS.items()}
    return images | {f"{s}_labels": (np.arange(n) % 2).astype(np.uint8)[:, None] for s, n in COUNTS.items()}


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("name", ["pneumoniamnist.npz", "breastmnist_64.npz", "own.npz"])
def test_arrays_keep_their_splits_and_have_the_published_names(tmp_path, colour, name):
    content = arrays(colour)
    np.savez_compressed(tmp_path / name, **content)
    data = load_data(tmp_path / name)
    names = {"pneumoniamnist.npz": ("normal", "pneumonia"), "breastmnist_64.npz": ("malignant", "normal, benign")}
    assert data.class_names == names.get(name, ("0", "1"))
    for split in SPLITS:
        assert data[split].labels.tolist() == content[f"{split}_labels"][:, 0].tolist()
        for i in range(len(data[split])):
            expected = content[f"{split}_images"][i]
            pixels = np.asarray(data[split].image(i))
            assert (pixels == (expected if colour else expected[:, :, None])).all()
    assert any("classes are numbers" in note for note in data.notes) is (name == "own.npz")


def test_names_follow_the_labels_and_not_their_alphabet(tmp_path):
    """Labels here count in sorted order of the names: MedMNIST's 0 is "vessel", which sorts after its 1."""
    content = arrays()
    np.savez(tmp_path / "retinamnist.npz", **content)
    assert load_data(tmp_path / "retinamnist.npz").class_names == ("0", "1")
    np.savez(tmp_path / "tissuemnist.npz", **content)
    data = load_data(tmp_path / "tissuemnist.npz")
    assert data.train[0].class_name == "Collecting Duct, Connecting Tubule"
    assert data.train[1].class_name == "Distal Convoluted Tubule"


def test_pickled_arrays_are_refused_and_not_run(tmp_path):
    content = arrays()
    content["train_labels"] = np.array([print] * 8, dtype=object)
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(ValueError, match="its arrays cannot be read .*pickle"):
        load_data(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("train_images", np.zeros((8, 28, 28, 28), np.uint8), "Volumes"),
        ("train_images", np.zeros((8, 28, 28), np.float32), "expected train_images of 8 bits"),
        ("test_labels", np.zeros((5, 14), np.uint8), "several classes each"),
        ("val_labels", np.zeros((2, 1), np.uint8), "one for each of 3 pictures"),
        (
            "train_labels",
            np.full((8, 1), 9, np.uint8),
            "train_labels holds 9, and pneumoniamnist has the classes 0 to 1",
        ),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, part, value, sentence):
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays() | {part: value})
    with pytest.raises(ValueError, match=sentence):
        load_data(tmp_path / "pneumoniamnist.npz")


def test_a_small_file_cannot_ask_for_all_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 45, 28, 28)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
        archive.writestr("train_labels.npy", header.getvalue())
    with pytest.raises(ValueError, match="x.npz: its arrays"):
        load_data(tmp_path / "x.npz")
