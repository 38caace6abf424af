"""Runs of a grid that stand on others: DPC on its host's own run, PromptKD on that of its teacher; each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliptune.registry import describe, host_run, names
from cliptune.registry.plugins import is_path, parts_of
from cliptune.runs import read_result
from cliptune.runs.spec import RunSpec
from cliptune.sweep.cells import Cell

TEACHER = "teacher"


def place_cells(runs: Sequence[RunSpec], out: Path, settled: Callable[[RunSpec], RunSpec]) -> list[Cell]:
    """The runs in their folders, in the same order; those that stand on another run are told where it lies.

    A run whose host's own run (same options, data, seed, backbone) is among them, or lies finished in its folder,
    goes on from its end; the result is the same, bit for bit, as if it had trained the host itself. A teacher that is
    given by a method's name, as in "promptsrc" or "promptsrc@ViT-L/14", is the run of that method on the same data and
    seed.

    Args:
        out: folder of all runs.
        settled: gives a run its options and training, for the teacher.
    Raises: ValueError for a teacher whose run is neither among them nor finished.
    """
    there = {spec.folder_below(out) for spec in runs}
    placed: dict[Path, Cell] = {}  # what is asked for twice runs once
    for spec in runs:
        taught, teachers = _taught(spec, out, settled, there)
        place = taught.folder_below(out)
        placed[place] = Cell(taught, place, after=teachers)
    return [_continuing(cell, out, set(placed)) for cell in placed.values()]


def teacher_run(spec: RunSpec, settled: Callable[[RunSpec], RunSpec]) -> RunSpec | None:
    """The run whose end teaches this one, on the same data and seed; None if its teacher is not given by a method.

    Args:
        settled: gives the teacher its options and training.
    """
    teacher = spec.options.get(TEACHER)
    method, _, backbone = teacher.partition("@") if isinstance(teacher, str) else ("", "", "")
    is_method = method.split("+")[0].strip() in names() or any(map(is_path, parts_of(method)))
    # What a method teaches itself with when it is told nothing needs no run.
    if not is_method or teacher == _usual_teacher(spec.method):
        return None
    backbone = backbone or spec.backbone
    # What was said of the run's own weights says nothing of another backbone's.
    loading = spec.loading if backbone == spec.backbone else {}
    return settled(replace(spec, method=method, backbone=backbone, loading=loading, options={}, training={}))


def _taught(
    spec: RunSpec, out: Path, settled: Callable[[RunSpec], RunSpec], there: set[Path]
) -> tuple[RunSpec, tuple[Path, ...]]:
    """The run with its teacher's folder in the place of the teacher's method; and that folder, if there is one."""
    teacher = teacher_run(spec, settled)
    if teacher is None:
        return spec, ()
    place = teacher.folder_below(out)
    if place not in there and read_result(place) is None:
        where = f" and --backbone {teacher.backbone}" if teacher.backbone != spec.backbone else ""
        raise ValueError(
            f"bench: the teacher of {spec.method} is to be the run of {teacher.method} on the same data and seed, but "
            f"that is neither in this grid nor finished in {place}. Add {teacher.method} to the methods, or run it "
            f"first with --methods {teacher.method}{where} and the same --out."
        )
    return replace(spec, options={**spec.options, TEACHER: str(place)}), (place,)


def _usual_teacher(method: str) -> Any:
    options = {name: option for part in parts_of(method) for name, option in describe(part).options.items()}
    return options.get(TEACHER, (None, None))[1]


def _continuing(cell: Cell, out: Path, there: set[Path]) -> Cell:
    host = host_run(cell.spec.method, cell.spec.options)
    if host is None:
        return cell
    place = replace(cell.spec, method=host[0], options=host[1]).folder_below(out)
    if place not in there and not _is_finished(place):
        return cell
    return replace(cell, continues=place, after=(*cell.after, place))


def _is_finished(folder: Path) -> bool:
    try:
        return read_result(folder) is not None
    except ValueError:  # damaged: what stands on it is trained in place
        return False


class Waiting:
    """Cells to be given out, each after those that it stands on.

    Args:
        cells: of a grid, each with the folders that it comes after; a folder that is not in the grid is not waited for.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = list(cells)
        self._open = {cell.folder for cell in cells}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def take(self) -> Cell | None:
        """The first that may start; None if all that are left wait for one that is under way."""
        for i, cell in enumerate(self._cells):
            if self._open.isdisjoint(cell.after):
                return self._cells.pop(i)
        return None

    def give_back(self, cell: Cell) -> None:
        """It could not be run and has to be given out once more, after the others."""
        self._cells.append(cell)

    def ended(self, cell: Cell) -> None:
        """It is finished, or has failed; then those that stand on it find that out and say so."""
        self._open.discard(cell.folder)
