"""A graph as a program of `torch.export`, and that as an ONNX file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from cliptune.exported.classifier import ExportedClassifier
from cliptune.exported.description import KEY, Description
from cliptune.exported.onnx import IMAGES, PROBABILITIES, OnnxClassifier
from cliptune.exporting.graph import Graph
from cliptune.reading import shown

LARGEST_ONNX = 2**31 - 2**24
"""Bytes of weights that one ONNX file can hold, beside its graph."""


class ProgramTarget:
    """Writes a program of `torch.export`. Args: graph; input: "uint8" or "float32"."""

    def __init__(self, graph: Graph, input: str) -> None:
        self._program = program_of(graph, input)

    def write(self, path: Path, about: Description) -> ExportedClassifier:
        self.describe(path, about)
        return ProgramClassifier(path)

    def describe(self, path: Path, about: Description) -> None:
        """The same program with another description."""
        with _quietly():
            torch.export.save(self._program, str(path), extra_files={f"{KEY}.json": about.text})


class OnnxTarget:
    """Writes an ONNX file. Raises: ImportError if the extra is missing; ValueError for more than 2 GiB of weights."""

    def __init__(self, graph: Graph, input: str) -> None:
        _onnx()  # told before the work
        size = sum(t.numel() * t.element_size() for t in (*graph.parameters(), *graph.buffers()))
        if size > LARGEST_ONNX:
            raise ValueError(
                f"export: the weights have {size / 2**30:.1f} GiB, and an ONNX file holds less than 2. Use dtype "
                "float16, or torch-export."
            )
        self._program = program_of(graph, input)

    def write(self, path: Path, about: Description) -> ExportedClassifier:
        with _quietly():
            made = torch.onnx.export(
                self._program,
                (),
                dynamo=True,
                input_names=[IMAGES],
                output_names=[PROBABILITIES],
                dynamic_shapes={"images": {0: "batch"}},
                verbose=False,
            )
            assert made is not None
            made.save(str(path), external_data=False)
        self.describe(path, about)
        return OnnxClassifier(path)

    def describe(self, path: Path, about: Description) -> None:
        """Put a description into the file, in place of what the exporter says of the machine that it ran on."""
        onnx = _onnx()
        model = onnx.load(str(path))
        _describe(model, about)
        onnx.save(model, str(path))


def program_of(graph: Graph, input: str) -> ExportedProgram:
    """The graph as a program for any number of images.

    Raises: ValueError with a sentence if something in it counts the images, as towers of other libraries may.
    """
    from torch._dynamo.exc import UserError  # which torch.export raises, and has loaded by then

    # Two: of one image, its first axis would be taken for a number.
    pixels = torch.zeros(2, 3, graph.resolution, graph.resolution, dtype=getattr(torch, input))
    with torch.no_grad(), _quietly():
        graph(pixels)  # what texts and heads count once is counted now, by numbers
        try:
            return torch.export.export(graph, (pixels,), dynamic_shapes={"images": {0: Dim.DYNAMIC}})
        except UserError as error:
            raise ValueError(
                "export: torch cannot write this adapter as a program for any number of images, which something in it "
                f"counts ({shown(_line(error))}). Answer with the run itself: cliptune predict, cliptune serve."
            ) from error


def _line(error: Exception) -> str:
    said = [line.strip(" -") for line in str(error).splitlines()]
    return next((line for line in said if line.startswith("You marked")), said[0] if said else "")[:160]


def _describe(model: Any, about: Description) -> None:
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, about.text
    model.producer_name, model.producer_version = "cliptune", about.version
    for node in model.graph.node:  # places in our code, and on the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.initializer, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]


class ProgramClassifier(ExportedClassifier):
    """A program of `torch.export` that `export` wrote."""

    def __init__(self, path: Path) -> None:
        said = {f"{KEY}.json": ""}
        self._module = torch.export.load(str(path), extra_files=said).module()
        self.description = Description.read(said[f"{KEY}.json"], str(path))

    @torch.no_grad()
    def _answer(self, prepared: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(np.ascontiguousarray(prepared))
        answer: Tensor = self._module(images if self.description.input == "uint8" else images.float() / 255)
        return answer.numpy()


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter asks for it
    except ImportError as error:
        raise ImportError(
            "Exporting to ONNX needs the packages onnx, onnxscript and onnxruntime: pip install 'cliptune[onnx]'."
        ) from error
    return onnx


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporters log of their own working."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
