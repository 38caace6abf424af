"""`export`: a run, or an adapter, as files that other programs answer with."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import INPUTS, Description
from cliptune.exporting import folded, program
from cliptune.exporting.checking import Pictures, check_pictures, largest_difference
from cliptune.exporting.graph import Graph
from cliptune.files import atomic_write_json, explained
from cliptune.runs.checkpoints import read_adapter_config
from cliptune.runs.loading import choose_weight, load
from cliptune.version import __version__

CLASSES_FILE = "classes.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
ALLOWED = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference of a probability between an export and its adapter."""
NAMES = {"onnx": "model.onnx", "torch-export": "model.pt2", "folded": folded.WEIGHTS}
"""Target → what its file is called, where only a folder is given."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: of the model; of its folder, for "folded". files: all that were written.
        description: that it carries, with the difference that was found.
        notes: what was decided, a sentence each.
    """

    path: Path
    files: tuple[Path, ...]
    description: Description
    notes: tuple[str, ...]


def export(
    run: str | Path | Adapter,
    out: str | Path,
    *,
    to: str = "onnx",
    dtype: str = "float32",
    input: str = "uint8",
    classes: Sequence[str] | None = None,
    template: str | None = None,
    weight: float | None = None,
    pictures: Sequence[Image.Image] | None = None,
    clip: CLIP | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a classifier that goes from the pixels of a picture to probabilities, checked against the adapter.

    What is written answers for the classes asked about now; the text tower is left behind, unless the texts depend on
    the image. Normalisation is inside.

    Args:
        run: folder of a finished run; or an adapter, on the CPU and in float32.
        out: a folder, which gets the model and `classes.json`; or the model's own name, ending in .onnx or .pt2.
        to: "onnx"; "torch-export", a program of `torch.export`; or "folded", weights and settings for cliptune alone.
        dtype: of the towers, "float32" or "float16".
        input: "uint8", the bytes of the prepared picture; or "float32", the same in [0, 1].
        classes, template: other classes or another sentence than those of the run, as in `Adapter.set_classes`.
        weight: ω of the parallel prompt, for runs of dpc; None lets the classes decide.
        pictures: to check with; None for up to 16 of the run's own, or of Tinyworld's where they are gone.
        clip: backbone of the run; None opens the one that the run names.
        overwrite: replace files of an earlier export.
    Raises: ValueError for an unknown target or type, classes that the method cannot speak of, a method that cannot be
        exported so, existing files, or an export that answers otherwise than its adapter by more than `ALLOWED`;
        ImportError if the extra `onnx` is missing; OSError if nothing can be written.
    """
    for name, value, known in (("to", to, NAMES), ("dtype", dtype, DTYPES), ("input", input, INPUTS)):
        if value not in known:
            raise ValueError(f"export: {name} must be one of {', '.join(known)}, got {value!r}.")
    adapter = _adapter_of(run, clip)
    if classes is not None or template is not None:
        adapter.set_classes(list(classes or adapter.class_names), template=template)
    mixed = choose_weight(adapter, weight)
    about = Description(
        classes=adapter.class_names,
        resolution=adapter.resolution,
        input=input,  # type: ignore[arg-type]  # checked above
        dtype=dtype,  # type: ignore[arg-type]
        method=adapter.built_as or type(adapter.prompt).__name__,
        backbone=adapter.clip.name,
        mean=tuple(adapter.clip.mean),
        std=tuple(adapter.clip.std),
        pictures=adapter.clip.preprocessing.geometry,
        weight=mixed,
        version=__version__,
        temperature=adapter.temperature,
    )
    place = _place(Path(out).expanduser(), to)
    files = _files(place, to)
    _check_free(files, overwrite)
    checking = check_pictures(run, pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        checked = _written(place, _target(to, run, adapter, about), adapter, about, checking)
    atomic_write_json(files[-1], checked.plain)
    where = place.parent if to == "folded" else place
    return Exported(where, files, checked, _notes(adapter, checking, mixed, to))


def _adapter_of(run: str | Path | Adapter, clip: CLIP | None) -> Adapter:
    """An adapter of its own, whose classes and weight may be changed."""
    if not isinstance(run, Adapter):
        return load(run, clip=clip)
    if run.clip.dtype != torch.float32 or run.clip.device.type != "cpu":
        raise ValueError(
            f"export: the adapter must be in float32 on the CPU, got {run.clip.dtype} on {run.clip.device}. Use "
            "adapter.to('cpu'), and load_clip without dtype; the type of the export is an argument."
        )
    return run.for_texts(run.classes, seen=run.seen).with_prompt(copy.deepcopy(run.prompt))


class Target(Protocol):
    """A kind of file."""

    def write(self, path: Path, about: Description) -> ExportedClassifier:
        """Write the model with its description, and open it again."""
        ...

    def describe(self, path: Path, about: Description) -> None:
        """Give what was written another description."""
        ...


def _target(to: str, run: str | Path | Adapter, adapter: Adapter, about: Description) -> Target:
    dtype = DTYPES[about.dtype]
    if to != "folded":
        kind = program.OnnxTarget if to == "onnx" else program.ProgramTarget
        return kind(Graph(adapter, dtype), about.input)
    if isinstance(run, Adapter):
        raise ValueError(
            "export: a folded classifier is built again from a run's settings, so give the folder of a run. An adapter "
            "alone goes to onnx or torch-export."
        )
    return folded.FoldedTarget(adapter, read_adapter_config(run), dtype)


def _written(place: Path, target: Target, adapter: Adapter, about: Description, checking: Pictures) -> Description:
    """Write a model beside its place, hold it against the adapter, and only then move it there."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".export-") as folder:
            path = Path(folder) / place.name
            model = target.write(path, about)
            found, allowed = largest_difference(model, adapter, checking.images), ALLOWED[about.dtype]
            if not found <= allowed:
                raise ValueError(
                    f"export: the exported classifier differs from the adapter by {found:.2g} in a probability, on "
                    f"{len(checking.images)} pictures; at most {allowed:g} is allowed for {about.dtype}. Nothing was "
                    "written. Use dtype float32, or another target."
                )
            said = {"pictures": len(checking.images), "of": checking.of}
            checked = replace(about, checked={**said, "largest_difference": found, "allowed": allowed})
            target.describe(path, checked)
            for written in sorted(path.parent.iterdir()):
                os.replace(written, place.parent / written.name)
    except OSError as error:
        raise explained(error, place) from error
    return checked


def _place(out: Path, to: str) -> Path:
    """Where the model's file goes. Raises: ValueError if it is named as another kind of file."""
    suffix = Path(NAMES[to]).suffix
    if to != "folded" and out.suffix == suffix:
        return out
    if out.suffix in {Path(name).suffix for name in NAMES.values()} or out.is_file():
        instead = "a folder" if to == "folded" else f"a name that ends in {suffix}, or a folder"
        raise ValueError(f"export: --out for {to} must be {instead}, got {out}.")
    return out / NAMES[to]


def _files(place: Path, to: str) -> tuple[Path, ...]:
    beside = (place.parent / folded.SETTINGS,) if to == "folded" else ()
    return (place, *beside, place.parent / CLASSES_FILE)


def _check_free(files: Sequence[Path], overwrite: bool) -> None:
    there = [str(path) for path in files if path.exists()]
    if there and not overwrite:
        raise ValueError(f"export: {', '.join(there)} exists already. Give another --out, or --overwrite.")


def _notes(adapter: Adapter, checking: Pictures, mixed: float | None, to: str) -> tuple[str, ...]:
    notes = [checking.note] if checking.note else []
    if mixed is not None:
        kind = "trained" if adapter.seen else "new"
        notes.append(
            f"The two prompts of this run are mixed once, with ω = {mixed:g}, as for {kind} classes; another answer is "
            "another export."
        )
    if to != "folded" and adapter.prompt(seen=adapter.seen).condition is not None:
        notes.append("The texts of this method depend on the image: its text tower runs for every picture, slowly.")
    return tuple(notes)
