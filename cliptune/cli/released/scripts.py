"""Command lines of released scripts with arguments of their own: CLIP-LoRA and 2SFS."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliptune.cli.released.words import assigned, beside_recipe, data_name
from cliptune.registry import recipes_of
from cliptune.registry.released_settings import released

# What their code does not have: said of a file of weights, as in `cliptune train`.
WEIGHTS = (("activation", ""), ("arch", ""))


def said(asked: argparse.Namespace) -> list[str]:
    """The words of `WEIGHTS` that were given."""
    return [word for name, _ in WEIGHTS if (value := getattr(asked, name)) for word in (f"--{name}", value)]


def clip_lora(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[str]:
    """Of CLIP-LoRA's main.py: --root_path, --dataset, --shots, --r, …"""
    for name, default in (
        *(("root_path", ""), ("dataset", "dtd"), ("backbone", "ViT-B/16"), ("save_path", ""), ("filename", "")),
        ("position", "all"),
        *WEIGHTS,
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
    command = ["train", "--method", "clip_lora", "--data", data, *root, "--backbone", asked.backbone, *said(asked)]
    command += ["--shots", str(asked.shots), "--seed", str(asked.seed), "--out", str(folder)]
    return [*command, *assigned("clip_lora", options)]


# What its code takes that changes no number here, or is nothing but CLIP-LoRA's.
_TWO_STAGE_SILENT = ("workers", "test_batch_size", "debug", "save_path", "filename")


def two_stage(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[str]:
    """Of 2SFS's main.py, which runs CLIP-LoRA as well: --mode, --setting, --peft, --n_iters, --n_iters_frac, …"""
    asked = _asked_two_stage(parser, words)
    method = _of_mode(asked)
    for name in ("ln_vision_start", "ln_text_start"):
        if getattr(asked, name):
            notes.append(f"--{name} {getattr(asked, name)} has no counterpart here and was left out: all blocks learn.")
    if asked.wd != 0.01:
        notes.append(f"--wd {asked.wd:g} was left out: the decay of weights is 0.01.")
    if asked.results_dir or asked.exp_name:
        notes.append("--results_dir and --exp_name were left out: a run is a folder, named by --out.")
    if method == "clip_lora" and asked.position != "all":
        notes.append(f"--position {asked.position} has no counterpart here and was left out: all blocks change.")
    options: dict[str, Any] = {}
    for name, key in released(method).keys.items():
        value = getattr(asked, name)
        options |= key.options("".join(value) if isinstance(value, list) else value)
    data, halves = data_name(asked.dataset), asked.setting == "base2new"
    where = ["--data", data, *(["--root", asked.root_path] if asked.root_path else [])]
    where += ["--backbone", asked.backbone, *said(asked), "--shots", str(asked.shots)]
    protocol = "base2new" if halves else "few_shot"
    if protocol in recipes_of(method):
        recipe = ["--recipe"] if halves else ["--recipe", protocol]
        recipe += beside_recipe(method, protocol, asked.shots, data, asked.backbone, options)
    else:
        recipe = assigned(method, options)
    if halves:
        return ["bench", protocol, "--methods", method, *where, "--seeds", str(asked.seed), *recipe]
    return ["train", "--method", method, *where, "--seed", str(asked.seed), *recipe]


def _asked_two_stage(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    for name, default in (
        *(("root_path", ""), ("backbone", "ViT-B/16"), ("mode", "twostage"), ("setting", "standard"), ("peft", "ln")),
        *(("results_dir", ""), ("exp_name", ""), ("position", "all")),
        *((name, "") for name in _TWO_STAGE_SILENT),
        *WEIGHTS,
    ):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--shots", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wd", type=float, default=0.01)
    for name in ("ln_vision_start", "ln_text_start"):
        parser.add_argument(f"--{name}", type=int, default=0)
    # --n_iters has the default of 2SFS also where it runs CLIP-LoRA.
    for name, key in {**released("clip_lora").keys, **released("two_stage").keys}.items():
        parser.add_argument(f"--{name}", default=key.default, nargs="+" if name == "params" else None)
    return parser.parse_args(list(words))


def _of_mode(asked: argparse.Namespace) -> str:
    """The method that --mode means. Raises: ValueError for what has no counterpart."""
    if asked.setting not in ("standard", "base2new"):
        raise ValueError(f"train: --setting is standard or base2new, got {asked.setting!r}.")
    if asked.mode == "cliplora":
        return "clip_lora"
    if asked.mode == "twostage" and asked.peft == "ln":
        return "two_stage"
    raise ValueError(
        f"train: of 2SFS's code, --mode {asked.mode} with --peft {asked.peft} has no counterpart here. Known: --mode "
        "twostage with --peft ln, and --mode cliplora."
    )
