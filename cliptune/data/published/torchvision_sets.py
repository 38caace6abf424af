"""Published data sets as torchvision lays them out, with their official splits instead of the field's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cliptune.data.items import SPLITS, Dataset, Item, Split
from cliptune.data.own.naming import class_name, relative_path, require_files
from cliptune.data.published.annotations import mat_file
from cliptune.data.published.facts import Facts, published
from cliptune.data.published.own_split import ignored_note, renamed_note, year_first
from cliptune.data.published.reading import class_count_noted
from cliptune.data.splits import split_trainval, stratified

Rows = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class Reader:
    """How a class of `torchvision.datasets` is asked.

    Args:
        kind: name of the class.
        folder: of the pictures below the root; written out here because some classes make a folder that is missing.
        splits: its names of the official splits; empty if it has none.
        rows: object of the class → (path, label) of every picture in it. Torchvision has no public way to them that
            does not decode the pictures; these attributes are the same from 0.21 to 0.29, but 0.21 names no flowers.
        raw_names: object → class names by label, as torchvision has them.
        spoken: such a name in the field's words.
        options: further arguments of the class.
        shared: which of its splits are the field's: "none", "test" or "all".
        mats: its MATLAB files below the root. They are read here first, because what torchvision reads them with may
            end the process on a damaged one.
    """

    kind: str
    folder: str
    splits: tuple[str, ...]
    rows: Callable[[Any], Rows] = lambda found: zip(found._image_files, found._labels, strict=True)
    raw_names: Callable[[Any], Iterable[str]] = lambda found: found.classes
    spoken: Callable[[str], str] = lambda raw: raw
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: str = "none"
    mats: tuple[str, ...] = ()


def _numbered(found: Any) -> Rows:
    """Pictures of Caltech101, of which torchvision keeps a category and a number each."""
    folder = Path(found.root) / "101_ObjectCategories"
    for label, number in zip(found.y, found.index, strict=True):
        yield folder / found.categories[label] / f"image_{number:04d}.jpg", label


READERS: dict[str, Reader] = {
    "caltech101": Reader(
        "Caltech101",
        "caltech101/101_ObjectCategories",
        (),
        rows=_numbered,
        raw_names=lambda found: found.categories,
    ),
    "oxford_pets": Reader(
        "OxfordIIITPet",
        "oxford-iiit-pet/images",
        ("trainval", "test"),
        rows=lambda found: zip(found._images, found._labels, strict=True),
        spoken=str.lower,
        shared="test",
    ),
    "stanford_cars": Reader(
        "StanfordCars",
        "stanford_cars",
        ("train", "test"),
        rows=lambda found: found._samples,
        spoken=year_first,
        shared="test",
        mats=(
            "stanford_cars/devkit/cars_meta.mat",
            "stanford_cars/devkit/cars_train_annos.mat",
            "stanford_cars/cars_test_annos_withlabels.mat",
        ),
    ),
    "oxford_flowers": Reader(
        "Flowers102",
        "flowers-102/jpg",
        ("train", "val", "test"),
        spoken=lambda raw: raw.rstrip("?"),
        mats=("flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
    ),
    "food101": Reader("Food101", "food-101/images", ("train", "test")),
    "fgvc_aircraft": Reader(
        "FGVCAircraft",
        "fgvc-aircraft-2013b/data/images",
        ("train", "val", "test"),
        options={"annotation_level": "variant"},
        shared="all",
    ),
    "sun397": Reader("SUN397", "SUN397", (), spoken=lambda raw: " ".join(reversed(raw.split("/")))),
    "dtd": Reader("DTD", "dtd/dtd/images", ("train", "val", "test"), options={"partition": 1}),
    "eurosat": Reader("EuroSAT", "eurosat/2750", (), rows=lambda found: found.samples),
}
"""Data set → how torchvision's class for it is asked; labels of all of them count in the field's order."""

_COMPARED = {
    "none": "These splits are not the field's (CoOp's): numbers are not comparable with published ones.",
    "test": "Only test is the field's (CoOp's), train and val are not: numbers are not comparable with published ones.",
    "all": "These splits are the field's (CoOp's) too.",
}


def read_torchvision(
    name: str,
    root: str | Path | None = None,
    *,
    template: str | None = None,
    split_seed: int = 1,
    check_files: bool = True,
) -> Dataset:
    """A published data set by torchvision's own class, with the field's labels and class names; nothing is fetched.

    The official splits are taken as they are; without a val split, round(0.2 n) images of every training class go to it
    (`split_trainval`), and without any, the data set is cut as a folder of one's own (`stratified`), both by
    `split_seed`. DTD's is the first of its ten partitions.

    Args:
        name: any spelling of its name.
        root: what torchvision calls root.
        template: text with one "{}"; by default the field's hand-written one.
        split_seed: of the parts that are cut here.
        check_files: look that every listed picture is there.
    Returns: the data set, named `NAME-torchvision`, so that its numbers stand beside no published ones; paths are those
        of the field.
    Raises: ValueError for a name that torchvision has no class for, no root, or files of another content;
        FileNotFoundError for what is missing; ImportError for a torchvision without the class or its lists.
    """
    known = _known(name)
    reader = READERS[known.name]
    who = f"Data set {known.name}, by torchvision"
    if root is None:
        raise ValueError(f"{who}: give root (--root), the folder that holds {reader.folder}/.")
    top = Path(root).expanduser()
    images = top / reader.folder
    if not images.is_dir():
        raise FileNotFoundError(
            f"{who}: expected the pictures in the folder {images}, which is not there. {_fetch(reader, known, top)}"
        )
    for file in reader.mats:
        if (top / file).is_file():
            mat_file(top / file, who)
    found = {split: _opened(reader, known, top, split, who) for split in reader.splits or (None,)}
    names, items, passed = _listed(found, reader, known, images, who)
    if check_files:
        require_files(images, (item.path for listed in items.values() for item in listed), who)
    parts, made = _parts(items, split_seed)
    notes = (f"{who}: {made}.", f"{who}: {_COMPARED[reader.shared]}", *passed)
    train, val, test = (Split.of_files(images, part) for part in parts)
    called, words = f"{known.name}-torchvision", known.template if template is None else template
    return class_count_noted(Dataset(called, names, train, val, test, words, images, notes=notes), known)


def _known(name: str) -> Facts:
    wanted = name.strip().lower()
    known = next((facts for facts in published().values() if wanted in facts.spellings), None)
    if known is None or known.name not in READERS:
        raise ValueError(
            f"Data {name!r} cannot be read with source='torchvision' (--source torchvision), which knows "
            f"{', '.join(READERS)}. Choose one of them, or leave the source out."
        )
    return known


def _opened(reader: Reader, known: Facts, root: Path, split: str | None, who: str) -> Any:
    """The object of torchvision's class."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, reader.kind, None)
    if kind is None:
        raise _too_old(reader, who)
    try:
        return kind(str(root), **({} if split is None else {"split": split}), **reader.options)
    except Exception as error:  # missing and damaged label files fail in many ways inside torchvision
        missing = isinstance(error, FileNotFoundError) or "not found" in str(error)
        sentence = f"{who}: {reader.kind} cannot read the files below {root} ({str(error).rstrip('.')})."
        raise (FileNotFoundError if missing else ValueError)(f"{sentence} {_fetch(reader, known, root)}") from error


def _listed(
    found: Mapping[str | None, Any], reader: Reader, known: Facts, images: Path, who: str
) -> tuple[tuple[str, ...], dict[str | None, list[Item]], list[str]]:
    """Class names, and per split the pictures by paths relative to `images`, labelled without the ignored classes; and
    what was left out or renamed, as sentences.
    """
    try:
        raw = [list(reader.raw_names(dataset)) for dataset in found.values()]
        rows = {split: [(str(path), int(label)) for path, label in reader.rows(found[split])] for split in found}
    except AttributeError as error:
        raise _too_old(reader, who) from error
    if any(other != raw[0] for other in raw[1:]):
        raise ValueError(f"{who}: its splits do not name the same classes. Fetch the files again.")
    kept = [i for i, name in enumerate(raw[0]) if name not in known.ignored]
    names = tuple(class_name(known.renamed.get(raw[0][i]) or reader.spoken(raw[0][i])) for i in kept)
    label = {old: new for new, old in enumerate(kept)}
    items: dict[str | None, list[Item]] = {}
    for split, listed in rows.items():
        wrong = next((old for _, old in listed if not 0 <= old < len(raw[0])), None)
        if wrong is not None:
            raise ValueError(f"{who}: label {wrong} is listed, there are {len(raw[0])} classes. Fetch the files again.")
        items[split] = [
            Item(relative_path(Path(path).relative_to(images).as_posix(), who), label[old], names[label[old]])
            for path, old in (listed if split is not None else sorted(listed))
            if old in label
        ]
    said = ignored_note(who, set(raw[0]) & set(known.ignored))
    said += renamed_note(who, [(raw[0][i], known.renamed[raw[0][i]]) for i in kept if raw[0][i] in known.renamed])
    return names, items, said


def _parts(items: Mapping[str | None, list[Item]], seed: int) -> tuple[list[list[Item]], str]:
    """Train, val and test, and in words how they came about."""
    if set(items) == set(SPLITS):
        return [items[split] for split in SPLITS], "the official train, val and test splits"
    first, *others = items.values()
    labels = [item.label for item in first]
    if others:
        cut: tuple[list[int], ...] = split_trainval(labels, seed)
        made = f"the official test split; val is a fifth of the official training pictures, cut off with seed {seed}"
    else:
        cut = stratified(labels, seed)
        made = f"there is no official split; half of every class is train, a fifth val, the rest test, by seed {seed}"
    return [*([first[i] for i in at] for at in cut), *others], made


def _fetch(reader: Reader, known: Facts, root: Path) -> str:
    if reader.kind == "StanfordCars":
        return f"torchvision fetches it no more; `cliptune data plan {known.name}` says where to get what."
    return (
        f"torchvision.datasets.{reader.kind}({str(root)!r}, download=True) fetches it, once a broken {reader.folder} "
        "is removed."
    )


def _too_old(reader: Reader, who: str) -> ImportError:
    import torchvision

    return ImportError(
        f"{who}: torchvision {torchvision.__version__} has no {reader.kind}, or one without the lists of classes and "
        "pictures that are read here. Install another: pip install --upgrade torchvision."
    )
