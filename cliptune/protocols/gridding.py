"""The cells of a grid: protocol × data × shots × backbones × methods × seeds, and the folder that each belongs in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from cliptune.methods import names
from cliptune.methods.plugins import is_path, label, origin_of, parts_of
from cliptune.protocols.cells import PROTOCOLS, Cell
from cliptune.protocols.data_efficiency import check_request
from cliptune.protocols.sharing import joined

# A transfer starts from the run that few-shot learning makes of its source.
_HOMES = {"cross": "few_shot", "domains": "few_shot"}
# Arguments of `fit` that change numbers; the others may differ between two calls for the same run.
_DECISIVE = ("precision", "accumulate", "select", "views")


def grid(
    protocol: str,
    out: str | Path,
    *,
    methods: Sequence[str],
    sources: Sequence[Mapping[str, Any]],
    shots: Sequence[int | None] = (16,),
    seeds: Sequence[int] = (1, 2, 3),
    backbones: Sequence[str] = ("mini",),
    loading: Mapping[str, str] | None = None,
    settings: Callable[[str, int | None], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None,
    published: Callable[[str, int | None, str, str], Mapping[str, Any]] | None = None,
    asked: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None = None,
) -> list[Cell]:
    """The cells of a grid, data set by data set, so that each is opened once.

    Args:
        protocol: one of `PROTOCOLS`.
        out: folder of all runs; a cell's folder below it tells the cell apart from every other.
        sources: arguments of `load_data`, one mapping per data set.
        loading: further arguments of `load_clip`, for all backbones.
        settings: (method, shots) → options of the method and arguments of `fit`; None for the defaults.
        published: (method, shots, data, backbone) → options that those of `settings` are laid over.
        asked: source → what else each of its cells asks of the protocol: `{"targets": …}` for "cross" and "domains",
            `{"fraction": …, "selection": …}` for "data_efficient".
    Raises: ValueError for an unknown protocol or an empty side of the grid.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"bench: protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    sides = {"methods": methods, "data": sources, "shots": shots, "seeds": seeds, "backbones": backbones}
    for side, chosen in sides.items():
        if not chosen:
            raise ValueError(f"bench: there are no {side}, so there is nothing to run. Give at least one.")
    wanted = [(source, more) for source in sources for more in (asked(source) if asked is not None else ({},))]
    for _, more in wanted:
        if not more.get("targets", True):
            raise ValueError(f"bench: there are no targets for {protocol}. Give at least one data set: --targets NAME.")
        if "fraction" in more:
            check_request(more["fraction"], more["selection"], more.get("selector_epochs", 0))

    def settled(
        method: str, shots: int | None, data: str, backbone: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        options, training = settings(method, shots) if settings is not None else ({}, {})
        start = published(method, shots, data, backbone) if published is not None else {}
        return {**start, **options}, training

    cells = []
    for (source, more), k, backbone, method, seed in product(wanted, shots, backbones, methods, seeds):
        options, training = settled(method, k, source["name"], backbone)
        given = (dict(options), dict(training), dict(more))
        cells.append(
            Cell(protocol, method, dict(source), k, seed, backbone, Path(), *given, loading=dict(loading or {}))
        )
    return joined(cells, partial(_folder, Path(out).expanduser().absolute()), settled)


def _folder(out: Path, cell: Cell) -> Path:
    """Where a cell's run belongs: it tells the cell apart from every other."""
    # Runs below `out` that it stands on are named from there, so that all may move together.
    options = {
        name: os.path.relpath(value, out) if isinstance(value, str) and Path(value).is_relative_to(out) else value
        for name, value in cell.options.items()
    }
    place = out / _HOMES.get(cell.protocol, cell.protocol) / _label(cell.source) / _share(cell.shots, cell.asked)
    # A file that was changed is another method, whose runs take another folder.
    files = {part: origin_of(part).sha256 for part in parts_of(cell.method) if is_path(part)}
    named = {f"plugin {label(part)}": sha256 for part, sha256 in files.items()}
    method = _with_digest(_in_order(cell.method), {**options, **named}, cell.training)
    # A run of the same weights read otherwise is another run.
    read_as = f"-{_digest(dict(cell.loading))}" if cell.loading else ""
    return place / f"{_file_name(cell.backbone)}{read_as}" / method / f"seed{cell.seed}"


def _share(shots: int | None, asked: Mapping[str, Any]) -> str:
    """A folder's name for the part of the training images that is used."""
    if "fraction" in asked:
        further = {key: value for key, value in asked.items() if key not in ("fraction", "selection")}
        share = f"{asked['fraction']:g}-{asked['selection']}"
        return f"{share}-{_digest(further)}" if further else share
    return "all" if shots is None else f"{shots}shots"


def _label(source: Mapping[str, Any]) -> str:
    """A folder's name for a data set; paths that end alike get different ones."""
    name = str(source["name"])
    further = {key: value for key, value in source.items() if key not in ("name", "root")}
    if Path(name).is_absolute() or further:
        return f"{_file_name(Path(name).name)}-{_digest({'name': name, **further})}"
    return _file_name(name)


def _in_order(method: str) -> str:
    """One spelling for all orders of the same add-ons."""
    hosts = names()
    return "+".join(sorted(parts_of(label(method)), key=lambda part: (part not in hosts, part)))


def _with_digest(method: str, options: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The method, and a short hash of what was set, so that other settings take another folder."""
    decisive = {**options, **{key: training[key] for key in _DECISIVE if training.get(key) is not None}}
    return f"{method}-{_digest(decisive)}" if decisive else method


def _file_name(text: str) -> str:
    if Path(text).is_absolute():
        return f"{_file_name(Path(text).name)}-{_digest(text)}"
    return "".join(sign if sign.isalnum() or sign in "._+-" else "-" for sign in text)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
