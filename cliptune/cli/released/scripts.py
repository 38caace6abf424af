"""Command lines of released scripts with arguments of their own: CLIP-LoRA and Tip-Adapter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliptune.cli.released.words import assigned, data_name, read_yaml
from cliptune.reading import shown
from cliptune.registry.released_settings import released

# What their code does not have: said of a file of weights, as in `cliptune train`.
_WEIGHTS = (("activation", ""), ("arch", ""))


def _said(asked: argparse.Namespace) -> list[str]:
    return [word for name, _ in _WEIGHTS if (value := getattr(asked, name)) for word in (f"--{name}", value)]


def clip_lora(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[str]:
    """Of CLIP-LoRA's main.py: --root_path, --dataset, --shots, --r, …"""
    for name, default in (
        *(("root_path", ""), ("dataset", "dtd"), ("backbone", "ViT-B/16"), ("save_path", ""), ("filename", "")),
        ("position", "all"),
        *_WEIGHTS,
    ):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--eval_only", action="store_true")
    keys = released("clip_lora").keys
    for name, key in keys.items():
        parser.add_argument(f"--{name}", default=key.default, nargs="+" if name == "params" else None)
    asked = parser.parse_args(list(words))
    if asked.position != "all":
        notes.append(f"--position {asked.position} has no counterpart here and was left out: all blocks change.")
    if asked.filename:
        notes.append("--filename was left out: a run is a folder.")
    data = data_name(asked.dataset)
    folder = Path(asked.save_path or "runs") / asked.backbone.replace("/", "-") / data / f"{asked.shots}shots"
    folder /= f"seed{asked.seed}"
    root = ["--root", asked.root_path] if asked.root_path else []
    if asked.eval_only:
        return ["eval", str(folder), *root]
    options: dict[str, Any] = {}
    for name, key in keys.items():
        value = getattr(asked, name)
        options |= key.options("".join(value) if isinstance(value, list) else value)
    command = ["train", "--method", "clip_lora", "--data", data, *root, "--backbone", asked.backbone, *_said(asked)]
    command += ["--shots", str(asked.shots), "--seed", str(asked.seed), "--out", str(folder)]
    return [*command, *assigned("clip_lora", options)]


def tip_adapter(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[list[str]]:
    """Of Tip-Adapter's main.py, whose YAML file holds everything and which runs both of its methods."""
    parser.add_argument("--config", required=True)
    for name, default in _WEIGHTS:
        parser.add_argument(f"--{name}", default=default)
    asked = parser.parse_args(list(words))
    path = Path(asked.config).expanduser()
    if not path.is_file():
        raise ValueError(
            f"train: there is no file {path}. Give a configuration of Tip-Adapter, or --method and --data."
        )
    config = read_yaml(path)
    if not {"init_alpha", "dataset"} <= set(config):
        raise ValueError(
            f"train: {path} is no configuration of Tip-Adapter, which has `dataset` and `init_alpha`. "
            "For settings of cliptune give --method and --data as well."
        )
    data, shots, backbone = data_name(str(config["dataset"])), config.get("shots", 16), config.get("backbone", "RN50")
    commands = []
    for method in ("tip_adapter", "tip_adapter_f"):
        options: dict[str, Any] = {}
        for name, key in released(method).keys.items():
            options |= key.options(config.get(name, key.default))
        if "search_scale" in config:
            options |= dict(zip(("beta_max", "alpha_max"), _two(config["search_scale"], path), strict=True))
        command = ["train", "--method", method, "--data", data]
        command += ["--root", str(config["root_path"])] if config.get("root_path") else []
        command += ["--backbone", str(backbone), *_said(asked), "--shots", str(shots), "--seed", "1"]
        commands.append([*command, *assigned(method, options)])
    for name in ("load_cache", "load_pre_feat"):
        if config.get(name):
            notes.append(f"{name} was left out: features are computed anew, or taken from an unfinished run.")
    if config.get("search_step", [200, 20]) != [200, 20]:
        notes.append(f"search_step {config['search_step']} was left out: the grid has 200 × 20 places.")
    return commands


def _two(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(
            f"train: search_scale in {path} must be two numbers, got {shown(repr(value))}. Correct the file."
        )
    return value
