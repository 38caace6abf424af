"""The classes of a task: data given at run time, never weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

DEFAULT_TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class ClassSet:
    """What is known about the classes.

    Args:
        names: C class names in label order. Two classes may share a name (ImageNet has two such pairs): labels are
            positions, never names.
        template: hand-written sentence of the data set, with `{}` where the name goes.
        descriptions: set or cause → class name → sentences, where a data set has them; in the order in which
            they are to be used. Sets called "des" and "dist" hold describing and distinguishing attributes.
        truncate: cut names with which a sentence has more tokens than the text tower reads, after the last word that
            fits, and say so; otherwise they are refused.

    Raises: ValueError for no classes, a blank name, or a template without `{}`.
    """

    names: tuple[str, ...]
    template: str = DEFAULT_TEMPLATE
    descriptions: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    truncate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ValueError("ClassSet: at least one class name is needed, got none. Pass the names of your classes.")
        for i, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"ClassSet: class names must be non-blank text, got {name!r} at position {i}.")
        check_template(self.template)

    @classmethod
    def of(cls, classes: Sequence[str] | ClassSet) -> ClassSet:
        """A class set from names, or the one given."""
        if isinstance(classes, ClassSet):
            return classes
        if isinstance(classes, str):
            raise ValueError(f"ClassSet: expected a list of class names, got the text {classes!r}. Put it in a list.")
        return cls(tuple(classes))

    def with_template(self, template: str | None) -> ClassSet:
        return self if template is None else replace(self, template=template)

    @property
    def descriptions_sha256(self) -> str | None:
        """Hex hash of the descriptions; None where there are none."""
        if not self.descriptions:
            return None
        plain = {name: {c: list(told) for c, told in of.items()} for name, of in self.descriptions.items()}
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

    def with_descriptions(self, descriptions: Mapping[str, Mapping[str, Sequence[str]]]) -> ClassSet:
        return replace(self, descriptions=descriptions)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def words(self) -> tuple[str, ...]:
        """The names as they are written in sentences: underscores are spaces."""
        return tuple(name.replace("_", " ") for name in self.names)


def check_template(template: str) -> None:
    if template.count("{}") != 1:
        raise ValueError(
            f"ClassSet: a template must hold {{}} once, where the class name goes, got {template!r}. "
            f"An example: {DEFAULT_TEMPLATE!r}."
        )
