"""Options from `--set name=value` and YAML files, typed by the dataclass fields and arguments that they fill."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cliptune.reading import LARGEST_YAML, content_of, shown, yaml_value

# Arguments of `fit` that change how a run is made; the others have options of their own on the command line.
TRAINING = (
    "precision",
    "accumulate",
    "workers",
    "select",
    "save_every",
    "cache_images",
    "cache_features",
    "views",
    "steps",
    "images",
    "log_prompts",
)
_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


@dataclass
class Settings:
    """What a run was asked for.

    Args:
        options: of the method.
        training: arguments of `fit`.
    """

    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def resolve(
    method: str,
    *,
    recipe: str | None = None,
    shots: int | None = None,
    data: str | None = None,
    backbone: str | None = None,
    file: str | Path | None = None,
    assignments: Sequence[str] = (),
    shortcuts: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings of a run; what comes later in the argument list has the last word.

    Args:
        method: a host with add-ons; its options and those of `fit` may be set.
        recipe: protocol whose published recipe is the start; `shots`, `data` and `backbone` choose within it.
        file: YAML file of options, or the `config.yaml` of a run to repeat.
        assignments: "name=value".
        shortcuts: name → value, None for one that was not given.
    Raises: ValueError for an unknown name (with the nearest known one) or a value of the wrong type.
    """
    from cliptune.registry import published_options

    hints, own = _hints(method), own_hints(method)
    published = published_options(method, recipe, shots, data=data, backbone=backbone) if recipe else {}
    wanted: dict[str, Any] = dict(published)
    if file is not None:
        wanted |= _from_file(Path(file).expanduser())
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set: expected name=value, got {assignment!r}. For example --set n_ctx=4.")
        wanted[name.strip().replace("-", "_")] = value.strip()
    wanted |= {name: value for name, value in (shortcuts or {}).items() if value is not None}
    settings = Settings()
    for name, value in wanted.items():
        if name not in hints:
            raise ValueError(_unknown(name, method, hints))
        chosen = settings.training if name in TRAINING and name not in own else settings.options
        chosen[name] = typed(value, hints[name], name)
    return settings


def shared_out(assignments: Sequence[str], methods: Sequence[str]) -> dict[str, list[str]]:
    """Method → those of the assignments that concern it.

    Args:
        assignments: "name=value" for every method that has such an option, "method:name=value" for one alone.
        methods: hosts with add-ons.
    Raises: ValueError for a name that none of the methods has, or a method that is not among them.
    """
    hints = {method: _hints(method) for method in methods}
    shares: dict[str, list[str]] = {method: [] for method in methods}
    for assignment in assignments:
        place, _, _ = assignment.partition("=")
        one, colon, name = place.rpartition(":")
        if colon and one not in shares:
            raise ValueError(f"--set {assignment}: {one!r} is not among the methods {', '.join(methods)}.")
        name = name.strip().replace("-", "_")
        owners = [method for method in ([one] if colon else methods) if name in hints[method]]
        if not owners:
            merged = {known: hint for method in methods for known, hint in hints[method].items()}
            raise ValueError(_unknown(name, one or ", ".join(methods), hints[one] if colon else merged))
        for method in owners:
            shares[method].append(assignment[len(one) + 1 :] if colon else assignment)
    return shares


def typed(value: Any, hint: Any, name: str) -> Any:
    """A value as its type wants it; text is parsed, other values are checked.

    Args:
        value: text from the command line, or a value from a YAML file.
        hint: bool, int, float, str, None, a Literal, list or tuple of those, a mapping, or a union of them.
        name: of the option, for the error.
    Raises: ValueError that says what was expected.
    """
    for kind in _alternatives(hint):
        try:
            return _as(value, kind)
        except (TypeError, ValueError, OverflowError):
            continue
    expected = " or ".join(_spoken(kind) for kind in _alternatives(hint))
    raise ValueError(f"Option {name}: expected {expected}, got {shown(repr(value))}.")


def _as(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if kind is type(None):
        if value is None or (isinstance(value, str) and value.lower() in _NONE):
            return None
    elif origin is Literal:
        for choice in get_args(kind):
            if value == choice and type(value) is type(choice):
                return choice
            if isinstance(value, str) and value.lower() == str(choice).lower():
                return choice
    elif kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
    elif kind in (int, float) and not isinstance(value, bool):
        number = kind(value)
        if math.isfinite(number) and (isinstance(value, str) or number == value):
            return number
    elif kind is str and isinstance(value, str):
        return value
    elif origin in (list, tuple, Sequence):
        return _sequence(value, origin, get_args(kind))
    elif (origin or kind) in (dict, Mapping) and isinstance(value, dict):
        return value
    raise ValueError


def _sequence(value: Any, origin: Any, members: tuple[Any, ...]) -> Any:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    fixed = origin is tuple and members and members[-1] is not Ellipsis
    if fixed and len(parts) != len(members):
        raise ValueError
    kinds = members if fixed else [members[0] if members else str] * len(parts)
    items = [typed(part, kind, "") for part, kind in zip(parts, kinds, strict=True)]
    return items if origin is list else tuple(items)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, text last: everything can be read as text."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(sorted(members, key=lambda kind: kind is str))


def _spoken(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) in (list, tuple, Sequence):
        return "values separated by commas"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}
    return words.get(kind, "a mapping (in a YAML file)")


def _hints(method: str) -> dict[str, Any]:
    """Name → type of everything that may be set for a method."""
    from cliptune.training import fit

    fit_hints = get_type_hints(fit)
    return {**{name: fit_hints[name] for name in TRAINING}, **own_hints(method)}


def own_hints(method: str) -> dict[str, Any]:
    """Name → type of the options of a method, which go before what the training calls by the same name."""
    from cliptune.registry.building import find
    from cliptune.registry.plugins import parts_of

    hints: dict[str, Any] = {"template": str, "descriptions": str, "truncate": bool}
    for part in parts_of(method):
        hints |= get_type_hints(find(part).Config)
    return hints


def _unknown(name: str, method: str, hints: Mapping[str, Any]) -> str:
    near = get_close_matches(name, hints, n=2, cutoff=0.55)
    own = [known for known in hints if known not in TRAINING]
    return (
        f"{method}: there is no option {shown(name)!r}. "
        + (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"Options of the method: {', '.join(own)}; of the training: {', '.join(TRAINING)}."
    )


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"Settings file {path}: expected a YAML file, found nothing. Check the path.")
    try:
        content = yaml_value(content_of(path, LARGEST_YAML))
    except ValueError as error:
        raise ValueError(f"Settings file {path}: expected YAML, but {error}. Correct the file.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"Settings file {path}: expected lines such as `n_ctx: 4`, got {type(content).__name__}.")
    if isinstance(content.get("options"), dict) and "stages" in content:  # a run's own config.yaml
        repeated = ("precision", "accumulate", "select", "views", "steps", "images")
        own = {str(name): value for name, value in content["options"].items()}
        return {**own, **{key: content[key] for key in repeated if key in content}}
    return {str(name).replace("-", "_"): value for name, value in content.items()}
