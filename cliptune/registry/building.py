"""Finds methods and wrappers by their files, and builds recipes from names such as `coop` or `maple+dpc`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Any

import torch

import cliptune.methods
import cliptune.wrappers
from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.recipe import Recipe
from cliptune.registry.narrow import mark_narrow
from cliptune.registry.plugins import (
    from_entry_point,
    from_file,
    installed,
    is_add_on,
    is_path,
    label,
    origin_of,
    parts_of,
)
from cliptune.texts import ClassSet, read_descriptions


@dataclass(frozen=True)
class MethodInfo:
    """What the listing says of a method.

    Args:
        name: of its module or file. summary: first line of its docstring. paper: arXiv id. enters: the ports it uses.
        options: option → (type as written, default).
        wrapper: true for an add-on that is joined to a host by "+".
    """

    name: str
    summary: str
    paper: str
    enters: str
    options: Mapping[str, tuple[str, Any]]
    wrapper: bool


@cache
def _modules(package: ModuleType) -> dict[str, ModuleType]:
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "build") and is_dataclass(getattr(module, "Config", None)):
            found[info.name] = module
    return found


def names() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(sorted(_modules(cliptune.methods)))


def add_ons() -> tuple[str, ...]:
    """Names of all wrappers that "+" can join to a method, sorted."""
    return tuple(sorted(_modules(cliptune.wrappers)))


def installed_names() -> tuple[str, ...]:
    """Names of the methods and add-ons that installed distributions bring, sorted.

    One that has the name of a method of the package is left out: the name stands for the package's.
    """
    return tuple(sorted(set(installed()) - set(_own())))


def describe(name: str) -> MethodInfo:
    """What there is to say of one method or add-on, given by its name or its file's path."""
    module = find(name)
    options = {
        f.name: (str(f.type), f.default if f.default is not MISSING else None) for f in _own_first(module.Config)
    }
    summary = next(iter((module.__doc__ or "").strip().splitlines()), "without a docstring")
    return MethodInfo(label(name), summary, module.PAPER, module.ENTERS, options, is_add_on(module))


def _own_first(config: type) -> list[Field[Any]]:
    """Fields of a dataclass, its own before those that it shares with others."""
    known = {f.name: f for f in fields(config)}
    order = dict.fromkeys(name for cls in config.__mro__ for name in vars(cls).get("__annotations__", {}))
    return [known[name] for name in order if name in known]


def build(method: str, clip: CLIP, classes: Sequence[str] | ClassSet, *, seed: int = 1, **options: Any) -> Recipe:
    """Build adapter and stages of a method.

    Args:
        method: a host, with add-ons joined by "+", such as "coop" or "maple+rlp+dpc"; the order in which they are
            named does not matter. A part may be the path of a .py file with `Config` and `build`, which is executed.
        clip: the frozen backbone.
        classes: names in label order, or a `ClassSet` with the data set's template.
        seed: of the random start of the learnables.
        options: fields of the method's `Config`; `template` may also be given for the hand-written sentence, and
            `descriptions` for a file or folder of sentences about the classes; `truncate` cuts names that are too long.
    Raises: ValueError for an unknown method or option, naming the nearest, or for a combination that cannot be.
    """
    parts = {part: find(part) for part in parts_of(method)}
    hosts = [part for part, module in parts.items() if not is_add_on(module)]
    if len(hosts) != 1 or len({label(part) for part in parts_of(method)}) != len(parts_of(method)):
        raise ValueError(
            f"build: {method!r} must name exactly one method and each add-on once. "
            f"Methods: {', '.join(names())}. Add-ons: {', '.join(add_ons()) or 'none'}."
        )
    template, descriptions, truncate = (options.pop(name, None) for name in ("template", "descriptions", "truncate"))
    class_set = ClassSet.of(classes).with_template(template)
    if truncate is not None:
        class_set = replace(class_set, truncate=truncate)
    if descriptions is not None:
        class_set = class_set.with_descriptions(read_descriptions(descriptions))
    module = parts.pop(hosts[0])
    wrappers = dict(sorted(parts.items(), key=lambda item: item[1].ORDER))
    configs = _configs([module, *wrappers.values()], options, method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        recipe: Recipe = module.build(clip, class_set, configs[0])
        recipe.method = label(hosts[0])
        for (name, wrapper), config in zip(wrappers.items(), configs[1:], strict=True):
            built = wrapper.build(recipe, config)
            built.method = f"{recipe.method}+{label(name)}"
            recipe = built
    outside = [origin_of(part) for part in (hosts[0], *wrappers) if part not in _own()]
    recipe.plugins = {origin.name: {k: v for k, v in asdict(origin).items() if k != "name"} for origin in outside}
    recipe.config = {
        **{f.name: getattr(config, f.name) for config in configs for f in fields(config)},
        # Options that are objects, as the plain values that the method wrote in their place.
        **recipe.config,
        **({} if template is None else {"template": template}),
        **({} if truncate is None else {"truncate": truncate}),
    }
    mark_narrow(recipe, {hosts[0]: module, **wrappers}, clip)
    usual = {f.name: f.default for config in configs for f in fields(config)}
    chosen = [
        f"{name}={value}" for name, value in recipe.config.items() if _is_told(value) and value != usual.get(name)
    ]
    recipe.adapter.built_as = " ".join([recipe.method, *chosen])
    # Learnables live where the towers do; the frozen weights are there already.
    recipe.adapter.prompt.to(clip.device)
    recipe.adapter.head.to(clip.device)
    return recipe


def usual_options(method: str) -> dict[str, Any]:
    """Option → default, of those parts of a method that are in the package."""
    own = _own()
    known = (field for part in parts_of(method) if part in own for field in fields(own[part].Config))
    return {field.name: field.default for field in known}


def _is_told(value: Any) -> bool:
    """Whether an option's value says something in a word."""
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and " on " not in value)


def host_run(method: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The method, with its options, whose whole training is the beginning of this one's; None if there is none.

    Args:
        method: as in `build`; of "maple+dpc" the answer is "maple".
        options: of the method; those of the add-on are left out.
    """
    parts = parts_of(method)
    continuing = [part for part in parts if getattr(find(part), "CONTINUES", False)]
    if not continuing:
        return None
    own = {f.name for part in continuing for f in fields(find(part).Config)}
    rest = [part for part in parts if part not in continuing]
    return "+".join(rest), {name: value for name, value in options.items() if name not in own}


def count_learnables(method: str, config: CLIPConfig, classes: int = 10, **options: Any) -> int:
    """Values that learn by gradient, on a backbone of those sizes.

    Args:
        method: as in `build`.
        config: sizes of the backbone.
        classes: C, which matters to class-specific methods only.
    """
    clip = CLIP.of_sizes(config, default_tokenizer())
    recipe = build(method, clip, [f"class {i}" for i in range(classes)], **options)
    return sum(p.numel() for p in recipe.adapter.trainable().values())


def _own() -> dict[str, ModuleType]:
    """Name → module of the package's methods and add-ons."""
    return {**_modules(cliptune.methods), **_modules(cliptune.wrappers)}


def find(name: str) -> ModuleType:
    """The module of a method or add-on.

    Args:
        name: of one in the package, of an entry point, or the path of a .py file, which is executed.
    Raises: ValueError naming the nearest, or saying what is wrong with the file; FileNotFoundError if there is none.
    """
    own = _own()
    if name in own:
        return own[name]
    if is_path(name):
        return from_file(name, own)
    points = installed()
    if name in points:
        return from_entry_point(points[name])
    known = {*own, *points}
    # Papers write CoOp and CLIP-LoRA.
    folded = name.lower().replace("-", "_")
    near = [folded] if folded in known else get_close_matches(folded, known, n=3, cutoff=0.4)
    raise ValueError(
        f"cliptune: there is no method {name!r}. "
        + (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"Known: {', '.join(sorted(known))}."
    )


def _configs(modules: Sequence[ModuleType], options: dict[str, Any], method: str) -> list[Any]:
    known = {f.name for module in modules for f in fields(module.Config)}
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, n=3, cutoff=0.4)
            raise ValueError(
                f"{method}: there is no option {key!r}. "
                + (f"Did you mean {' or '.join(near)}? " if near else "")
                + f"Options: {', '.join(sorted(known | {'template', 'descriptions', 'truncate'}))}."
            )
    return [
        module.Config(**{f.name: options[f.name] for f in fields(module.Config) if f.name in options})
        for module in modules
    ]
