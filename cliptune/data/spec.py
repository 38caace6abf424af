"""What data is asked for, in words that open the same data again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cliptune.data.catalog import canonical, is_named, load_data
from cliptune.data.items import Dataset
from cliptune.data.own.columns import asked_columns
from cliptune.data.own.tables import delimiter_meant


@dataclass(frozen=True)
class DataSpec:
    """A data set, and the part of it that is meant. Two that say the same are equal and have the same hash.

    Args:
        name: of `list_data`, or a path.
        root: folder below which named data lies, or which the paths of a list are relative to.
        source: "coop" or "torchvision", see `load_data`.
        template: hand-written sentence with {} for a name; None for the data set's own.
        options: further arguments of its reader, such as `fractions` or `split`; of lists `columns` and `delimiter`.
        shots: training images per class; None for all.
        seed: of the few-shot sampling.
        classes: "all", "base" or "new".
    """

    name: str
    root: str | None = None
    source: str = "coop"
    template: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shots: int | None = None
    seed: int = 1
    classes: str = "all"

    @classmethod
    def found(cls, name: str, root: str | None = None, source: str = "coop", **options: Any) -> DataSpec:
        """As `name` is meant here, so that it means the same from any working directory.

        Args:
            name: in any spelling; what lies there goes before the name of a published set that does not.
            options: of its reader; those that are None are left out. `columns` may be "image=id,label=breed".
        Raises: ValueError for columns or a delimiter that cannot be meant.
        """
        path = Path(name).expanduser()
        named = source != "coop" or is_named(name, root)
        is_path = path.exists() and not named
        where = None if root is None else str(Path(root).expanduser().resolve())
        given = {key: value for key, value in options.items() if value is not None}
        if "columns" in given:
            given["columns"] = asked_columns(given["columns"])
        if "delimiter" in given:
            given["delimiter"] = delimiter_meant(given["delimiter"])
        return cls(
            str(path.resolve()) if is_path else canonical(name) if named else name,
            where,
            source,
            given.pop("template", None),
            given,
        )

    @classmethod
    def of(cls, arguments: Mapping[str, Any], **part: Any) -> DataSpec:
        """From `arguments`, as a run's result keeps them under "source".

        Args:
            part: `shots`, `seed` and `classes`, where not all is meant.
        """
        own = {key: arguments[key] for key in ("name", "root", "source", "template") if key in arguments}
        return cls(**own, options={key: v for key, v in arguments.items() if key not in own}, **part)

    @property
    def arguments(self) -> dict[str, Any]:
        """Of `load_data`, for the whole data set; plain values, without what is usual."""
        usual = {"root": None, "source": "coop", "template": None}
        own = {key: getattr(self, key) for key, value in usual.items() if getattr(self, key) != value}
        return {"name": self.name, **own, **self.options}

    @property
    def whole(self) -> DataSpec:
        """All images of all classes."""
        return replace(self, shots=None, seed=1, classes="all")

    def open(self) -> Dataset:
        """The data set, sampled and cut in this order, as the field does.

        Raises: as `load_data` does, with a ValueError for an option that its reader does not have.
        """
        try:
            return load_data(**self.arguments, shots=self.shots, seed=self.seed, classes=self.classes)
        except TypeError as error:
            raise ValueError(str(error)) from error

    @property
    def key(self) -> str:
        """All that it says, as one text."""
        return json.dumps(vars(self), sort_keys=True, default=str)

    def __hash__(self) -> int:
        return hash(self.key)
