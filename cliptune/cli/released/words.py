"""What the released command lines say, in words of this one: data sets, YAML files, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliptune.reading import LARGEST_YAML, content_of, shown, yaml_value


def data_name(*names: str) -> str:
    """The first name of a published data set in any spelling, as `cliptune data list` has it; else the first name."""
    from cliptune.data.published.facts import published

    given = [name for name in names if name]
    if not given:
        raise ValueError("train: there is no data set. Give --dataset-config-file, or DATASET.NAME NAME at the end.")
    for name in given:
        for known, facts in published().items():
            if name.lower() in facts.spellings:
                return known
    return given[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file, read without executing anything. Raises: ValueError if it is none."""
    try:
        content = yaml_value(content_of(path, LARGEST_YAML))
    except (OSError, ValueError) as error:
        raise ValueError(f"train: {path} cannot be read as YAML: {error}. Correct the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"train: {path} should hold settings by name, but holds {type(content).__name__}.")
    return content


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings within settings by their full names: {"a": {"b": 1}} is {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in ((str(name), value) for name, value in tree.items()):
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Settings that follow a command line as KEY VALUE. Raises: ValueError if one is alone."""
    if len(words) % 2:
        raise ValueError(f"train: settings follow as KEY VALUE pairs, but {words[-1]!r} is alone.")
    return dict(zip(words[::2], words[1::2], strict=True))


def number(config: Mapping[str, Any], name: str, default: float) -> float:
    """A setting that must be a number. Raises: ValueError if it is none."""
    try:
        return float(config.get(name, default))
    except (TypeError, ValueError):
        raise ValueError(f"train: {name} must be a number, got {shown(repr(config[name]))}.") from None


def beside_recipe(
    method: str, protocol: str, shots: int | None, data: str, backbone: str | None, options: Mapping[str, Any]
) -> list[str]:
    """Words for the options that differ from the published recipe of this case. Errors as of `assigned`."""
    from cliptune.registry import published_options

    return assigned(method, options, published_options(method, protocol, shots, data=data, backbone=backbone))


def assigned(method: str, options: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> list[str]:
    """Words that set options of a method, without those that have these values anyway.

    Args:
        start: options of the recipe that the run starts from.
    Raises: ValueError for a value that the option cannot have.
    """
    from cliptune.cli.commands.recipes import spelled
    from cliptune.cli.shared.settings import resolve
    from cliptune.registry import describe

    found = resolve(method, assignments=[f"{name}={spelled(value)}" for name, value in options.items()])
    before = {name: default for part in method.split("+") for name, (_, default) in describe(part).options.items()}
    before |= start or {}
    settings = {name: value for name, value in found.options.items() if value != before.get(name)} | found.training
    return [word for name, value in settings.items() for word in ("--set", f"{name}={spelled(value)}")]
