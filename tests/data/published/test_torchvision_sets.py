from __future__ import annotations

from pathlib import Path

import pytest
import torchvision.datasets
from scipy.io import savemat
from torchvision.datasets import flowers102

from cliptune.data import load_data
from cliptune.data.items import SPLITS
from cliptune.data.published.facts import published
from cliptune.data.published.torchvision_sets import READERS
from tests.data.published.miniatures import MINIATURES
from tests.data.published.torchvision_miniatures import TORCHVISION_MINIATURES

SPOKEN = {
    "caltech101": ("face", "leopard", "accordion", "airplane"),
    "oxford_pets": ("abyssinian", "american bulldog", "bengal"),
    "stanford_cars": ("2012 Acura RL Sedan", "2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan"),
    "food101": ("apple pie", "hot dog", "waffles"),
    "fgvc_aircraft": ("707-320", "F/A-18", "Cessna 560"),
    "sun397": ("abbey", "indoor apse", "outdoor ice skating rink"),
    "dtd": ("banded", "braided", "polka-dotted"),
    "eurosat": ("Annual Crop Land", "Forest", "Sea or Lake"),
}

# Train, val and test. Five, ten or twelve training pictures of a class give one, two or two to val.
SIZES = {
    "caltech101": (20, 8, 12),
    "oxford_pets": (24, 6, 6),
    "stanford_cars": (12, 3, 6),
    "oxford_flowers": (9, 3, 6),
    "food101": (12, 3, 6),
    "fgvc_aircraft": (12, 6, 6),
    "sun397": (15, 6, 9),
    "dtd": (9, 6, 6),
    "eurosat": (15, 6, 9),
}


@pytest.fixture(autouse=True)
def _without_checksums(monkeypatch):
    """Flowers102 compares its label files with those that are published; a miniature's are others."""
    monkeypatch.setattr(flowers102, "check_integrity", lambda path, md5=None: Path(path).is_file())


# torchvision's Flowers102 names its classes since 0.22; before, it is refused with a sentence.
NAMED_FLOWERS = hasattr(torchvision.datasets.Flowers102, "classes")
needs_named_flowers = pytest.mark.skipif(not NAMED_FLOWERS, reason="this torchvision's Flowers102 names no classes")


def opened(name: str, root: Path, **options):
    TORCHVISION_MINIATURES[name](root)
    return load_data(name, root=root, source="torchvision", **options)


def named(path: str, name: str) -> str:
    """The class of a picture by its path, where the path tells it: folder or stem as on disk."""
    return path.rpartition("_")[0] if name == "oxford_pets" else path.rpartition("/")[0]


def test_every_reader_has_a_miniature():
    assert set(TORCHVISION_MINIATURES) == set(READERS) == set(SIZES)


READABLE = [pytest.param(name, marks=needs_named_flowers) if name == "oxford_flowers" else name for name in READERS]


@pytest.mark.parametrize("name", READABLE)
def test_each_layout_is_read_with_the_fields_names(name, tmp_path):
    data = opened(name, tmp_path)
    assert (data.name, data.template) == (f"{name}-torchvision", published()[name].template)
    assert data.class_names == SPOKEN.get(name, data.class_names)
    assert tuple(len(data[split]) for split in SPLITS) == SIZES[name]
    for split in SPLITS:
        assert all(item.class_name == data.class_names[item.label] for item in data[split].items)
        assert data[split].unreadable() == []
    paths = [path for split in SPLITS for path in data[split].ids]
    assert len(set(paths)) == len(paths)
    assert all((data.root / path).is_file() for path in paths)


@pytest.mark.parametrize("name", READABLE)
def test_notes_say_what_can_be_compared(name, tmp_path):
    data = opened(name, tmp_path)
    comparable = not any("not comparable with published ones" in note for note in data.notes)
    assert comparable == (name == "fgvc_aircraft")


@pytest.mark.parametrize("name", ["caltech101", "oxford_pets", "food101", "dtd", "eurosat", "sun397"])
def test_labels_are_those_of_the_pictures_folders(name, tmp_path):
    data = opened(name, tmp_path)
    known = published()[name]
    spoken = {}
    for split in SPLITS:
        for item in data[split].items:
            raw = named(item.path, name)
            expected = known.renamed.get(raw, raw.replace("_", " "))
            if name == "sun397":
                expected = " ".join(raw.split("/")[:0:-1]).replace("_", " ")
            spoken[expected.lower()] = item.class_name.lower()
    assert all(expected == came for expected, came in spoken.items())
    assert not {"faces easy", "background google"} & set(spoken)


def test_splits_are_torchvisions_in_its_order(tmp_path):
    data = opened("dtd", tmp_path)
    for split in SPLITS:
        theirs = torchvision.datasets.DTD(tmp_path, split=split, partition=1)
        assert [str(data.root / path) for path in data[split].ids] == [str(path) for path in theirs._image_files]
        assert data[split].labels.tolist() == theirs._labels
        for i in (0, len(theirs) - 1):
            image, label = theirs[i]
            assert data[split].image(i).tobytes() == image.tobytes()
            assert data.class_names[label] == theirs.classes[label]


@needs_named_flowers
def test_flowers_go_by_their_number_and_names(tmp_path):
    data = opened("oxford_flowers", tmp_path)
    assert len(data.class_names) == 102
    assert data.class_names[51] == "wild pansy"  # the first new class
    assert data.class_names[59] == "pink-yellow dahlia"
    assert data.train.ids == tuple(f"image_{i:05d}.jpg" for i in range(9, 0, -1))
    assert data.train.labels.tolist() == [0, 59, 51] * 3


def test_aircraft_is_the_fields_data_set_with_the_fields_picks(tmp_path):
    MINIATURES["fgvc_aircraft"](tmp_path / "field")
    theirs = load_data("fgvc_aircraft", root=tmp_path / "field", shots=2, seed=3)
    TORCHVISION_MINIATURES["fgvc_aircraft"](tmp_path)
    ours = load_data("aircraft", root=tmp_path, source="torchvision", shots=2, seed=3)
    assert ours.split_sha256 == theirs.split_sha256
    assert (ours.train.ids, ours.val.ids, ours.class_names) == (theirs.train.ids, theirs.val.ids, theirs.class_names)
    assert ours.name != theirs.name


def test_cars_share_folder_labels_and_test_pictures_with_the_field(tmp_path):
    data = opened("stanford_cars", tmp_path)
    field = load_data("stanford_cars", root=tmp_path)
    assert (data.class_names, data.root) == (field.class_names, field.root)
    known = {item.path: item.label for split in SPLITS for item in field[split].items}
    assert {item.path: item.label for split in SPLITS for item in data[split].items} == known
    assert data.test.ids == field.test.ids


@pytest.mark.parametrize("name", ["oxford_pets", "eurosat"])
def test_what_is_cut_here_depends_on_the_seed_alone(name, tmp_path):
    first = opened(name, tmp_path)
    again, other = (load_data(name, root=tmp_path, source="torchvision", split_seed=seed) for seed in (1, 2))
    assert first.split_sha256 == again.split_sha256 != other.split_sha256
    assert any("seed 2" in note for note in other.notes)
    if name == "oxford_pets":
        assert other.test.ids == first.test.ids


def test_sampling_classes_and_template_go_on_as_usual(tmp_path):
    data = opened("dtd", tmp_path, shots=1, classes="base", template="look: {}.")
    assert (data.class_names, data.template, len(data.train)) == (("banded", "braided"), "look: {}.", 2)
    with pytest.raises(TypeError, match="has no option 'make_split'"):
        load_data("dtd", root=tmp_path, source="torchvision", make_split=True)


@pytest.mark.parametrize("name", ["ucf101", "imagenet", "tinyworld/objects", "mnist"])
def test_a_name_without_a_reader_lists_those_that_have_one(name, tmp_path):
    with pytest.raises(ValueError, match=f"Data '{name}' cannot be read with source='torchvision'.*knows caltech101"):
        load_data(name, root=tmp_path, source="torchvision")


def test_an_unknown_source_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="source must be one of coop, torchvision, got 'timm'"):
        load_data("dtd", root=tmp_path, source="timm")
    with pytest.raises(ValueError, match=r"give root \(--root\), the folder that holds dtd/dtd/images/"):
        load_data("dtd", source="torchvision")


@pytest.mark.parametrize("name", READERS)
def test_a_missing_folder_is_named_with_the_call_that_fetches_it(name, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_data(name, root=tmp_path, source="torchvision")
    assert str(tmp_path / READERS[name].folder) in str(error.value)
    call = "cliptune data plan" if name == "stanford_cars" else f"torchvision.datasets.{READERS[name].kind}("
    assert call in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "file", "content", "error", "sentence"),
    [
        ("dtd", "dtd/dtd/labels/val1.txt", None, FileNotFoundError, "val1.txt.*DTD.*download=True"),
        ("dtd", "dtd/dtd/labels/val1.txt", "banded\n", ValueError, "DTD cannot read the files below"),
        ("dtd", "dtd/dtd/labels/val1.txt", "banded/a.jpg\n", ValueError, "do not name the same classes"),
        ("food101", "food-101/meta/train.json", "{", ValueError, "Food101 cannot read the files below"),
        ("food101", "food-101/images/waffles/train0.jpg", None, FileNotFoundError, "1 listed pictures"),
        ("oxford_pets", "oxford-iiit-pet/annotations/test.txt", "Bengal\n", ValueError, "OxfordIIITPet cannot read"),
        ("oxford_flowers", "flowers-102/setid.mat", None, FileNotFoundError, "Flowers102 cannot read"),
        ("oxford_flowers", "flowers-102/setid.mat", "no matrix", ValueError, "cannot be read as a MATLAB file"),
        ("stanford_cars", "stanford_cars/devkit/cars_train_annos.mat", None, FileNotFoundError, "says where to get"),
        ("sun397", "SUN397/ClassName.txt", "/a/abbey\n", ValueError, "SUN397 cannot read"),
    ],
)
def test_missing_and_damaged_files_get_a_sentence(name, file, content, error, sentence, tmp_path):
    TORCHVISION_MINIATURES[name](tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(error, match=sentence):
        load_data(name, root=tmp_path, source="torchvision")


@needs_named_flowers
def test_labels_without_a_name_are_refused(tmp_path):
    TORCHVISION_MINIATURES["oxford_flowers"](tmp_path)
    savemat(tmp_path / "flowers-102/imagelabels.mat", {"labels": [[103] * 18]})
    with pytest.raises(ValueError, match="label 102 is listed, there are 102 classes"):
        load_data("flowers", root=tmp_path, source="torchvision")


def test_paths_that_climb_out_are_refused(tmp_path):
    TORCHVISION_MINIATURES["food101"](tmp_path)
    (tmp_path / "food-101/meta/test.json").write_text('{"apple_pie": ["../x"], "hot_dog": [], "waffles": []}')
    with pytest.raises(ValueError, match="leaves the root"):
        load_data("food", root=tmp_path, source="torchvision")


def test_a_torchvision_without_the_class_or_its_lists_is_named(tmp_path, monkeypatch):
    TORCHVISION_MINIATURES["oxford_flowers"](tmp_path)
    monkeypatch.delattr(torchvision.datasets.Flowers102, "classes", raising=False)
    with pytest.raises(
        ImportError, match=rf"torchvision {torchvision.__version__.replace('+', '.')} has no Flowers102"
    ):
        load_data("flowers", root=tmp_path, source="torchvision")
    monkeypatch.delattr(torchvision.datasets, "Flowers102")
    with pytest.raises(ImportError, match="pip install --upgrade torchvision"):
        load_data("flowers", root=tmp_path, source="torchvision")
