"""Command lines of the field's released code, in words of this one: what `cliptune train` was given is recognised."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from cliptune.cli.released.words import assigned, data_name, flat, number, pairs, read_yaml
from cliptune.cli.shared.output import remark
from cliptune.reading import shown

_TRAINING = ("--trainer", "--config-file", "--dataset-config-file", "--eval-only", "--model-dir")
_LORA = ("--root_path", "--n_iters", "--dataset")
# What 2SFS's main.py has beside them; a line without any of these is CLIP-LoRA's.
_TWO_STAGE = (
    "--mode", "--setting", "--peft", "--n_iters_frac", "--ln_modality", "--ln_vision_start", "--ln_text_start", "--wd",
    "--results_dir", "--exp_name", "--test_batch_size", "--workers", "--debug",
)  # fmt: skip
_BASELINE = ("--base_config", "--dataset_config")
# Add-ons whose releases train on a half of the classes, or on a source to transfer from.
_WITHOUT_SHOTS = {"dpc", "dept", "atprompt", "textrefiner"}
_COMMON = {"OPTIM.LR": "lr", "OPTIM.MAX_EPOCH": "epochs", "DATALOADER.TRAIN_X.BATCH_SIZE": "batch_size"}
# What every released configuration sets and every method here does.
_STANDARD = {
    "OPTIM.NAME": "sgd",
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": "1",
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": "1e-05",
    "INPUT.INTERPOLATION": "bicubic",
    "INPUT.TRANSFORMS": "['random_resized_crop', 'random_flip', 'normalize']",
}
# What is said elsewhere, or changes no number here.
_SILENT = (
    "DATASET.NAME", "DATASET.ROOT", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "DATASET.SELECTION_", "SEED",
    "OUTPUT_DIR", "TRAINER.NAME", "TRAINER.MODAL", "MODEL.BACKBONE.NAME", "TEST.FINAL_MODEL", "TEST.PER_CLASS_RESULT",
    "TEST.NO_TEST", "TEST.SPLIT", "TRAIN.", "DATALOADER.TEST.", "DATALOADER.NUM_WORKERS", "DATALOADER.RETURN_IMG0",
    "USE_CUDA", "VERBOSE", "INPUT.SIZE", "INPUT.PIXEL_",
)  # fmt: skip
_SELECTIONS = {"uncertainty": "margin", "submodular": "graph_cut"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"train, as a command line of {self.prog}: {message}.")


def in_our_words(words: Sequence[str]) -> list[list[str]]:
    """The command lines that one of a released code means, shown with what was left out; or else the one given."""
    given = {word.partition("=")[0] for word in words[1:]}
    if list(words[:1]) != ["train"] or "--method" in given:
        return [list(words)]
    notes: list[str] = []
    if given & set(_TRAINING):
        commands = [_trainer(words[1:], notes)]
    elif given & set(_BASELINE):
        from cliptune.cli.released.configs import baseline

        commands = [baseline(_Parser("LP++ or ProLIP", allow_abbrev=False), words[1:], notes)]
    elif {"--datasets", "--config"} <= given:
        from cliptune.cli.released.configs import stream

        commands = stream(_Parser("TDA", allow_abbrev=False), words[1:], notes)
    elif given & set(_LORA) and given & set(_TWO_STAGE):
        from cliptune.cli.released.scripts import two_stage

        commands = [two_stage(_Parser("2SFS", allow_abbrev=False), words[1:], notes)]
    elif given & set(_LORA):
        from cliptune.cli.released.scripts import clip_lora

        commands = [clip_lora(_Parser("CLIP-LoRA", allow_abbrev=False), words[1:], notes)]
    elif "--config" in given and "--data" not in given:
        from cliptune.cli.released.configs import configured

        commands = configured(_Parser("Tip-Adapter, APE or GDA", allow_abbrev=False), words[1:], notes)
    else:
        return [list(words)]
    if not all(word.isprintable() for command in commands for word in command):
        raise ValueError("train: a setting holds characters that cannot be printed. Correct the configuration.")
    remark("In words of cliptune:\n" + "\n".join(f"  cliptune {shlex.join(command)}" for command in commands))
    for note in dict.fromkeys(notes):
        remark(note)
    return commands


def _trainer(words: Sequence[str], notes: list[str]) -> list[str]:
    """Of the train.py that CoOp's code and its descendants share."""
    asked = _arguments().parse_args(list(words))
    config, read = _configuration(asked, notes)
    method = _method(asked, config)
    data = data_name(str(config.get("DATASET.NAME", "")), Path(asked.dataset_config_file).stem)
    classes = str(config.get("DATASET.SUBSAMPLE_CLASSES", "all"))
    _unused(asked, notes)
    if "dpc" in method and classes == "new" and not asked.model_dir:
        asked.eval_only, asked.model_dir = True, asked.output_dir  # the released trainers only test then
    if asked.eval_only and method != "zeroshot":
        return _evaluation(asked, method, data, classes, notes)
    if asked.no_train and not asked.eval_only:
        raise ValueError(
            "train: --no-train leaves nothing to do. Leave it out, or name a run with --eval-only --model-dir."
        )
    seed = asked.seed if asked.seed > 0 else int(number(config, "SEED", 0))
    if seed < 1:
        notes.append("No seed was given: the released code draws another one each time, here it is 1.")
    where = _places(asked, config, data)
    ratio, shots = number(config, "DATASET.SELECTION_RATIO", 1), int(number(config, "DATASET.NUM_SHOTS", -1))
    protocol = "data_efficient" if ratio < 1 else _protocol(method, asked, config, classes)
    start: dict[str, Any] | None = None
    if method != "zeroshot" and (not read or "dpc" in method):
        start = _recipe(method, protocol, max(shots, 0) or None, data, _backbone(asked, config), notes)
    settings = _settings(method, config, start, read, notes)
    if ratio < 1:
        for key, given in (("SUBSAMPLE_CLASSES", classes != "all"), ("NUM_SHOTS", shots > 0)):
            if given:
                notes.append(
                    f"DATASET.{key} {config[f'DATASET.{key}']} is left out: with DATASET.SELECTION_RATIO a part of the "
                    "whole training set is chosen here."
                )
        rule = str(config.get("DATASET.SELECTION_METHOD", "Uniform")).lower()
        command = ["bench", "data_efficient", "--methods", method, *where, "--fractions", f"{ratio:g}"]
        command += ["--selections", _SELECTIONS.get(rule, rule), "--seeds", str(max(seed, 1))]
        return [*command, *(["--recipe"] if start is not None else []), *settings]
    command = ["train", "--method", method, *where, "--shots", str(max(shots, 0)), "--seed", str(max(seed, 1))]
    return [
        *command,
        *(["--classes", classes] if classes != "all" else []),
        *([] if start is None else ["--recipe", protocol]),
        *settings,
    ]


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser("the released code", allow_abbrev=False, add_help=False)
    for name in ("root", "output-dir", "resume", "config-file", "dataset-config-file", "trainer", "backbone", "head"):
        parser.add_argument(f"--{name}", default="")
    for name in ("model-dir", "mode", "dapt-mode", "activation", "arch", "enhanced-base"):
        parser.add_argument(f"--{name}", default="")
    for name in ("source-domains", "target-domains", "transforms"):
        parser.add_argument(f"--{name}", nargs="+")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("--no-train", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser


def _configuration(asked: argparse.Namespace, notes: list[str]) -> tuple[dict[str, Any], bool]:
    """Settings by their full names, later ones over earlier ones, and whether the trainer's file was there."""
    config: dict[str, Any] = {}
    for name in (asked.dataset_config_file, asked.config_file):
        if name and Path(name).is_file():
            config |= flat(read_yaml(Path(name)))
    if asked.config_file and not Path(asked.config_file).is_file() and not asked.eval_only:
        notes.append(f"There is no file {asked.config_file} here, so the published settings stand for it.")
    config |= pairs(asked.opts)
    return config, bool(asked.config_file) and Path(asked.config_file).is_file()


# CLAP's trainer has several heads: of these it is told where they start and what holds them.
_HEADS = {("ZS", "l2"): "clap", ("ZS", "none"): "zs_probe", ("TR", "none"): "taskres"}


def _method(asked: argparse.Namespace, config: Mapping[str, Any]) -> str:
    from cliptune.registry.released_settings import released_trainers

    known = released_trainers()
    if asked.trainer not in known:
        near = get_close_matches(asked.trainer, known, n=2, cutoff=0.5)
        raise ValueError(
            f"train: {asked.trainer!r} is no trainer whose meaning is known. "
            + (f"Did you mean {' or '.join(near)}? " if near else "")
            + f"Known: {', '.join(known)}. `cliptune methods` lists the methods for --method."
        )
    if asked.trainer == "ADAPTER":
        head = str(config.get("TRAINER.ADAPTER.INIT", "ZS")), str(config.get("TRAINER.ADAPTER.CONSTRAINT", "l2"))
        if head not in _HEADS:
            raise ValueError(
                f"train: of the heads of trainer ADAPTER, INIT {shown(head[0])} with CONSTRAINT {shown(head[1])} has "
                "no counterpart here. `cliptune methods` lists the methods for --method."
            )
        return _HEADS[head]
    mode = asked.mode or asked.dapt_mode
    method = known[asked.trainer] + ("+dapt" if mode else "")
    if mode not in ("", "dapt-g"):
        raise ValueError(
            f"train: with --mode {mode} the released code takes masks from files beside the pictures. Their folder is "
            f"named here: cliptune train --method {method} --set dapt_source=FOLDER; `cliptune masks` makes masks."
        )
    return method


def _protocol(method: str, asked: argparse.Namespace, config: Mapping[str, Any], classes: str) -> str:
    modal = str(config.get("TRAINER.MODAL", ""))
    if "cross" in (Path(asked.config_file).stem + modal):
        return "cross"
    split = classes != "all" or modal == "base2novel" or not _WITHOUT_SHOTS.isdisjoint(method.split("+"))
    return "base2new" if split else "few_shot"


def _recipe(
    method: str, protocol: str, shots: int | None, data: str, backbone: str | None, notes: list[str]
) -> dict[str, Any] | None:
    from cliptune.registry import published_options

    try:
        return published_options(method, protocol, shots, data=data, backbone=backbone)
    except ValueError as error:
        notes.append(f"{error} The defaults of `cliptune methods {method.split('+')[0]}` are taken.")
        return None


def _settings(
    method: str, config: Mapping[str, Any], start: Mapping[str, Any] | None, read: bool, notes: list[str]
) -> list[str]:
    """--set for every option that differs from where the run starts; a note for every setting without counterpart."""
    from cliptune.registry import names
    from cliptune.registry.released_settings import Key, released

    keys = {name: Key(option, None) for name, option in _COMMON.items()}
    options: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    silent: list[str] = list(_SILENT)
    for part in method.split("+"):
        known = released(part)
        keys |= known.keys
        reasons |= known.remarks
        silent += known.silent
        if read and not (start is not None and part in names()):
            for key in known.keys.values():
                options |= key.options(key.default)
        options |= known.options
    for name, value in config.items():
        if name in keys:
            options |= keys[name].options(value)
        elif name in reasons:
            notes.append(f"{name} was left out: {reasons[name]}.")
        elif _standard(name, value) or name.endswith(".PREC") or name.startswith(tuple(silent)):
            continue
        else:
            notes.append(f"{shown(name)} {shown(str(value))} has no counterpart here and was left out.")
    if config.get("TEST.FINAL_MODEL") == "best_val":
        options["select"] = "val"
    return assigned(method, options, start or {})


def _standard(name: str, value: Any) -> bool:
    """Whether a setting has the value that all methods here have."""
    text = str(value).lower()
    with suppress(TypeError, ValueError):
        text = f"{float(value):g}"
    return _STANDARD.get(name) == text


def _places(asked: argparse.Namespace, config: Mapping[str, Any], data: str) -> list[str]:
    """Data, root, backbone and folder of the run."""
    words = ["--data", data]
    root = asked.root or str(config.get("DATASET.ROOT", ""))
    backbone = _backbone(asked, config)
    out = asked.output_dir or str(config.get("OUTPUT_DIR", ""))
    weights = (("--activation", asked.activation), ("--arch", asked.arch))
    for flag, value in (("--root", root), ("--backbone", backbone), *weights, ("--out", out)):
        words += [flag, str(value)] if value else []
    return words


def _backbone(asked: argparse.Namespace, config: Mapping[str, Any]) -> str | None:
    """As given, or what the name of a released configuration begins with, as in vit_b16_ep50.yaml."""
    from cliptune.clip.weights.openai import canonical_name

    if given := asked.backbone or config.get("MODEL.BACKBONE.NAME"):
        return str(given)
    parts = Path(asked.config_file).stem.split("_")
    return next((name for n in (2, 1) if (name := canonical_name("_".join(parts[:n]) or "-"))), None)


def _unused(asked: argparse.Namespace, notes: list[str]) -> None:
    if asked.resume:
        notes.append("--resume was left out: the same command goes on with an unfinished run by itself.")
    for name in ("head", "source_domains", "target_domains", "transforms"):
        if getattr(asked, name):
            notes.append(f"--{name.replace('_', '-')} has no counterpart here and was left out.")
    if asked.enhanced_base not in ("", "none"):
        notes.append("--enhanced-base was left out: the texts are those of the backbone itself, the regular base.")


def _evaluation(asked: argparse.Namespace, method: str, data: str, classes: str, notes: list[str]) -> list[str]:
    from cliptune.runs import read_result

    if not asked.model_dir:
        raise ValueError("train: --eval-only needs the run to score: --model-dir FOLDER.")
    result = read_result(asked.model_dir)
    if result is None:
        found = sorted(Path(asked.model_dir).glob("**/model*.pth.tar*"))
        if not found:
            raise ValueError(f"train: --model-dir {asked.model_dir} holds no finished run.")
        raise ValueError(
            f"train: --model-dir {asked.model_dir} holds a checkpoint of the released code. Make a run of it first, "
            f"cliptune convert {shlex.quote(str(found[0]))} --from {method} --classes NAMES --backbone NAME --out RUN, "
            "and name that run."
        )
    own = str((result.get("source") or {}).get("name", ""))
    same = bool(own) and data_name(own) == data
    if asked.load_epoch is not None:
        notes.append(
            f"--load-epoch {asked.load_epoch} was left out: a run keeps one epoch, the last or the selected one."
        )
    if asked.output_dir not in ("", asked.model_dir):
        notes.append(f"--output-dir was left out: the numbers go into {asked.model_dir}/result.json.")
    words = ["eval", asked.model_dir]
    words += [] if same else ["--data", data]
    words += ["--root", asked.root] if asked.root else []
    return [*words, *(["--classes", classes] if same or classes != "all" else [])]
