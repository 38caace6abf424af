"""Sentences about classes: published files, what is usable in them, what stands in where there are none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cliptune.reading import content_of, json_value, shown
from cliptune.texts.classes import ClassSet
from cliptune.texts.templates import IMAGENET

Descriptions = Mapping[str, Mapping[str, Sequence[str]]]
"""Set or cause → class name → sentences."""

DESCRIBING, DISTINGUISHING = "des", "dist"
USUAL = 20
"""Descriptions per class and set in the published recipes."""
MIN_LENGTH = 20
"""Characters; shorter ones are rubbish in the published files."""
_CAUSE_FILE = re.compile(r".*_(?:cse|csl)_(\d+)$")  # both spellings occur


def read_descriptions(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """Read published or own description files: JSON objects, class name → list of sentences.

    Args:
        path: a file, which makes one set; or a folder. Of files called `<data>_des.json` and `<data>_dist.json` the
            sets are "des" and "dist"; of `<data>_cse_<i>.json` (or `_csl_`) "cause <i>"; of any other file its name.
    Returns: set → class name → sentences, as they stand there; causes by number, then other sets by name.
    Raises: FileNotFoundError if there is nothing; ValueError for a file that is not of this form, or for two files
        of one set.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"Descriptions: there is no file or folder {path}. Give the JSON file, or the folder that holds them; "
            "`cliptune describe` can write them."
        )
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    for file in files:
        if file.name.endswith((".about.json", ".raw.json")):
            continue  # how the sentences came about
        name = set_name(file)
        if name in found:
            raise ValueError(
                f"Descriptions: {found[name].name} and {file.name} in {file.parent} are both the set {name!r}, perhaps "
                "of two data sets. Put the files of each data set into their own folder."
            )
        found[name] = file
    if not found:
        raise FileNotFoundError(f"Descriptions: the folder {path} holds no .json file.")
    return {name: _read(found[name]) for name in sorted(found, key=_by_number)}


def set_name(file: Path) -> str:
    """Name of the set that a file holds, by the published file names."""
    cause = _CAUSE_FILE.fullmatch(file.stem)
    if cause:
        return f"cause {cause[1]}"
    for known in (DESCRIBING, DISTINGUISHING):
        if file.stem == known or file.stem.endswith(f"_{known}"):
            return known
    return file.stem


def usable(sentences: Sequence[str], min_length: int = MIN_LENGTH) -> list[str]:
    """The sentences of at least so many characters."""
    return [sentence for sentence in sentences if len(sentence) >= min_length]


def sentences_of(descriptions: Descriptions, name: str, class_name: str) -> Sequence[str]:
    """The sentences of a set about a class.

    Names are compared as they are first, then with underscores as spaces and without regard to case: published files
    keep the raw names. Raises: ValueError naming the class, if it has no entry.
    """
    entries = descriptions[name]
    if class_name in entries:
        return entries[class_name]
    alike = [key for key in entries if _plain(key) == _plain(class_name)]
    if len(alike) != 1:
        known = ", ".join(repr(key) for key in list(entries)[:3])
        raise ValueError(
            f"Descriptions: the set {name!r} says nothing about the class {class_name!r} (it knows {len(entries)} "
            f"classes, such as {known}). Add the class to it, or write descriptions with `cliptune describe`."
        )
    return entries[alike[0]]


def template_bank(classes: ClassSet, sets: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """What stands in for descriptions where there are none: CLIP's templates, divided among the sets.

    True sentences that say nothing about the class but its name.
    """
    bank = [template for template in IMAGENET if len(template) > MIN_LENGTH]  # a name may be one letter
    shares = {name: bank[i :: len(sets)] for i, name in enumerate(sets)}
    return {
        name: {
            c: [template.replace("{}", word) for template in share]
            for c, word in zip(classes.names, classes.words, strict=True)
        }
        for name, share in shares.items()
    }


def attribute_sets(descriptions: Descriptions) -> dict[str, dict[str, list[str]]]:
    """The sets "des" and "dist", made from causes if they are not given.

    Describing: all sentences of all causes. Distinguishing: those of them that no other class has, or all of a class
    that shares every one.
    """
    made: dict[str, dict[str, list[str]]] = {}
    causes = [descriptions[name] for name in descriptions if name not in (DESCRIBING, DISTINGUISHING)]
    union: dict[str, list[str]] = {}
    for cause in causes or [descriptions.get(DESCRIBING) or descriptions[DISTINGUISHING]]:
        for class_name, sentences in cause.items():
            union.setdefault(class_name, []).extend(sentences)
    owners: dict[str, set[str]] = {}
    for class_name, sentences in union.items():
        for sentence in sentences:
            owners.setdefault(sentence, set()).add(class_name)
    apart = {c: [s for s in sentences if len(owners[s]) == 1] or sentences for c, sentences in union.items()}
    for name, default in ((DESCRIBING, union), (DISTINGUISHING, apart)):
        given = descriptions.get(name, default)
        made[name] = {class_name: list(sentences) for class_name, sentences in given.items()}
    return made


def _read(file: Path) -> dict[str, list[str]]:
    try:
        content = json_value(content_of(file))
    except ValueError as error:
        raise ValueError(f"Descriptions: {file} is not readable JSON: {error}. Write or fetch it again.") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"Descriptions: {file} must hold a JSON object of class name → list of sentences, "
            f"got {'an empty one' if content == {} else type(content).__name__}."
        )
    for class_name, sentences in content.items():
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            raise ValueError(
                f"Descriptions: {file}, class {shown(class_name)!r}: expected a list of sentences, got "
                f"{shown(repr(sentences))}."
            )
    return content


def _by_number(name: str) -> tuple[int, str]:
    number = name.removeprefix("cause ")
    return (int(number), "") if name.startswith("cause ") and number.isdigit() else (10**9, name)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
