"""Runs of a grid that stand on others: DPC on its host's own run, PromptKD on that of its teacher; each made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliptune.methods import host_run, names
from cliptune.protocols.cells import Cell
from cliptune.training import read_result

Settings = Callable[[str, int | None, str, str], tuple[Mapping[str, Any], Mapping[str, Any]]]
TEACHER, ZEROSHOT = "teacher", "zeroshot"


def joined(cells: Sequence[Cell], folder: Callable[[Cell], Path], settings: Settings) -> list[Cell]:
    """The same cells, in the same order, with folders; those that stand on another run are told where it lies.

    A cell whose host's own run (same options, data, seed, backbone) is in the grid, or lies finished in its folder,
    goes on from its end; the result is the same, bit for bit, as if it had trained the host itself. A teacher that is
    given by a method's name, as in "promptsrc" or "promptsrc@ViT-L/14", is the run of that method on the same data and
    seed.

    Args:
        cells: whose folders are not yet known.
        folder: where a cell's run belongs.
        settings: (method, shots, data, backbone) → options and arguments of `fit`, for the teacher.
    Raises: ValueError for a teacher whose run is neither in the grid nor finished.
    """
    there = {folder(cell) for cell in cells}
    placed = {}  # what is asked for twice runs once
    for cell in cells:
        taught = _taught(cell, folder, settings, there)
        placed[folder(taught)] = replace(taught, folder=folder(taught))
    return [_continuing(cell, folder, set(placed)) for cell in placed.values()]


def _taught(cell: Cell, folder: Callable[[Cell], Path], settings: Settings, there: set[Path]) -> Cell:
    teacher = cell.options.get(TEACHER)
    method, at, backbone = teacher.partition("@") if isinstance(teacher, str) else ("", "", "")
    if method.split("+")[0].strip() not in names() or teacher == ZEROSHOT:
        return cell
    backbone = backbone or cell.backbone
    options, training = settings(method, cell.shots, cell.source["name"], backbone)
    # What was said of the cell's own weights says nothing of another backbone's.
    loading = cell.loading if backbone == cell.backbone else {}
    own = replace(cell, method=method, backbone=backbone, loading=loading, options=options, training=training)
    place = folder(own)
    if place not in there and read_result(place) is None:
        where = f" and --backbone {backbone}" if at else ""
        raise ValueError(
            f"bench: the teacher of {cell.method} is to be the run of {method} on the same data and seed, but that is "
            f"neither in this grid nor finished in {place}. Add {method} to the methods, or run it first with "
            f"--methods {method}{where} and the same --out."
        )
    return replace(cell, options={**cell.options, TEACHER: str(place)}, after=(place,))


def _continuing(cell: Cell, folder: Callable[[Cell], Path], there: set[Path]) -> Cell:
    host = host_run(cell.method, cell.options)
    if host is None:
        return cell
    place = folder(replace(cell, method=host[0], options=host[1]))
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
