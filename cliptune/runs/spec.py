"""What one run is: a method on data with a backbone, and all that decides its numbers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cliptune.data.spec import DataSpec
from cliptune.registry import names
from cliptune.registry.plugins import is_path, label, origin_of, parts_of
from cliptune.runs.folder import read_config, read_result

PROTOCOLS = ("base2new", "few_shot", "cross", "domains", "data_efficient")
DECISIVE = ("precision", "accumulate", "select", "views")
"""Arguments of `fit` that change numbers; the others may differ between two calls for the same run."""
BUDGET = ("steps", "images")
"""Those that change numbers too, and are written down only where they are given."""
TUNING = "tuning"
"""The purpose, in a result, of a run that options are chosen by."""
PART = ("fraction", "selection", "selector", "selector_epochs", "selector_options", "parity")
"""How a part of the training images is chosen, and who judges them."""
# A transfer starts from the run that few-shot learning makes of its source.
_HOMES = {"cross": "few_shot", "domains": "few_shot"}


@dataclass(frozen=True)
class RunSpec:
    """One run. Two that say the same are equal and have the same hash.

    Args:
        method: a host with add-ons.
        data: with shots, seed and classes. The seed is that of the run as a whole: of sampling, the start of the
            learnables, order and augmentation, as in the field's code.
        protocol: one of `PROTOCOLS`.
        backbone: what `load_clip` takes.
        loading: further arguments of `load_clip`, where the weights do not tell everything.
        options: of the method.
        training: further arguments of `fit`.
        asked: further arguments of the protocol; under "targets" a `DataSpec` each.
    """

    method: str
    data: DataSpec
    protocol: str = "few_shot"
    backbone: str = "mini"
    loading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"bench: protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}.")

    @classmethod
    def read(cls, folder: str | Path) -> RunSpec:
        """What a run's folder holds, with every option spelled out.

        Raises: FileNotFoundError or ValueError if the folder holds no whole configuration of a training.
        """
        return cls.of(read_config(folder), read_result(folder) or {})

    @classmethod
    def of(cls, config: Mapping[str, Any], result: Mapping[str, Any]) -> RunSpec:
        """From the configuration and the result in a run's folder; the result of an unfinished run is empty."""
        data, sampling = config["data"], config["data"]["sampling"] or {}
        part = {"shots": sampling.get("shots"), "seed": config["seed"], "classes": data["classes"]}
        return cls(
            config["method"],
            DataSpec.of(result.get("source") or {"name": data["name"]}, **part),
            result.get("protocol") or "few_shot",
            config["backbone"]["name"],
            options=config["options"] or {},
            training={name: config[name] for name in (*DECISIVE, *BUDGET) if name in config or name in DECISIVE},
            asked={name: sampling[name] for name in PART if name in sampling},
        )

    @property
    def seed(self) -> int:
        return self.data.seed

    @property
    def shots(self) -> int | None:
        return self.data.shots

    @property
    def key(self) -> str:
        """All that it says, as one text."""
        said = vars(self) | {"data": vars(self.data), "asked": {**self.asked, "targets": self.targets}}
        return json.dumps(said, sort_keys=True, default=lambda value: getattr(value, "key", str(value)))

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def targets(self) -> tuple[DataSpec, ...]:
        """Data sets that are scored without training on them."""
        return tuple(self.asked.get("targets", ()))

    @property
    def without_seed(self) -> RunSpec:
        """What its repetitions with other seeds have in common."""
        return replace(self, data=replace(self.data, seed=0))

    @property
    def title(self) -> str:
        """For people."""
        picked = "all images" if self.shots is None else f"{self.shots} shot{'s' if self.shots != 1 else ''}"
        if "fraction" in self.asked:
            picked = f"{self.asked['fraction']:.0%} by {self.asked['selection']}"
        others = len(self.targets)
        to = f" to {others} target{'s' if others != 1 else ''}" if others else ""
        return f"{label(self.method)} on {self.data.name}{to}, {picked}, seed {self.seed}"

    def folder_below(self, out: Path) -> Path:
        """Where the run belongs in a folder of many: it tells the run apart from every other."""
        # Runs below `out` that it stands on are named from there, so that all may move together.
        options = {
            name: os.path.relpath(value, out) if isinstance(value, str) and Path(value).is_relative_to(out) else value
            for name, value in self.options.items()
        }
        place = out / _HOMES.get(self.protocol, self.protocol) / _data_label(self.data) / self._share
        # A file that was changed is another method, whose runs take another folder.
        files = {part: origin_of(part).sha256 for part in parts_of(self.method) if is_path(part)}
        named = {f"plugin {label(part)}": sha256 for part, sha256 in files.items()}
        given = {key: self.training.get(key) for key in (*DECISIVE, *BUDGET)}
        training = {key: value for key, value in given.items() if value is not None}
        decisive = {**options, **named, **training}
        method = f"{_in_order(self.method)}-{_digest(decisive)}" if decisive else _in_order(self.method)
        # A run of the same weights read otherwise is another run.
        read_as = f"-{_digest(dict(self.loading))}" if self.loading else ""
        return place / f"{_file_name(self.backbone)}{read_as}" / method / f"seed{self.seed}"

    @property
    def _share(self) -> str:
        """A folder's name for the part of the training images that is used."""
        if "fraction" in self.asked:
            further = {key: value for key, value in self.asked.items() if key not in ("fraction", "selection")}
            share = f"{self.asked['fraction']:g}-{self.asked['selection']}"
            return f"{share}-{_digest(further)}" if further else share
        return "all" if self.shots is None else f"{self.shots}shots"


def _data_label(data: DataSpec) -> str:
    """A folder's name for a data set; paths that end alike get different ones."""
    further = {key: value for key, value in data.arguments.items() if key not in ("name", "root")}
    if Path(data.name).is_absolute() or further:
        return f"{_file_name(Path(data.name).name)}-{_digest({'name': data.name, **further})}"
    return _file_name(data.name)


def _in_order(method: str) -> str:
    """One spelling for all orders of the same add-ons."""
    hosts = names()
    return "+".join(sorted(parts_of(label(method)), key=lambda part: (part not in hosts, part)))


def _file_name(text: str) -> str:
    if Path(text).is_absolute():
        return f"{_file_name(Path(text).name)}-{_digest(text)}"
    return "".join(sign if sign.isalnum() or sign in "._+-" else "-" for sign in text)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
