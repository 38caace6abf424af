"""Command lines whose settings stand in YAML files: Tip-Adapter, APE, GDA, LP++, ProLIP and TDA."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliptune.cli.released.scripts import WEIGHTS, said
from cliptune.cli.released.words import assigned, beside_recipe, data_name, flat, number, pairs, read_yaml
from cliptune.reading import shown
from cliptune.registry.released_settings import released

# By these the files of three releases are told apart that are named in the same way.
_TIP_ADAPTER, _APE, _GDA = {"init_alpha", "dataset"}, {"init_gamma", "w_training"}, {"dataset", "augment_epoch"}
# Values of the search that the heads have fixed: of β and of α.
_STEPS = [200, 20]
# TDA's letters for ImageNet and its shifts.
_LETTERS = {"I": "imagenet", "A": "imagenet_a", "V": "imagenetv2", "R": "imagenet_r", "S": "imagenet_sketch"}
_BASELINES = {"LinearProbe_P2": "lp_plus_plus", "ProLIP": "prolip"}


def configured(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[list[str]]:
    """Of a main.py whose --config FILE holds everything: Tip-Adapter's, APE's or GDA's, told apart by the file."""
    parser.add_argument("--config", required=True)
    parser.add_argument("--shot", type=int)
    for name, default in WEIGHTS:
        parser.add_argument(f"--{name}", default=default)
    asked = parser.parse_args(list(words))
    path = Path(asked.config).expanduser()
    if not path.is_file():
        raise ValueError(
            f"train: there is no file {path}. Give a configuration of Tip-Adapter, APE or GDA, or --method and --data."
        )
    config = read_yaml(path)
    for of, commands in ((_APE, _ape), (_TIP_ADAPTER, _tip_adapter), (_GDA, _gda)):
        if of <= set(config):
            return commands(config, path, asked, notes)
    raise ValueError(
        f"train: {path} is no configuration of Tip-Adapter, which has `dataset` and `init_alpha`, nor of APE or GDA. "
        "For settings of cliptune give --method and --data as well."
    )


def _tip_adapter(config: Mapping[str, Any], path: Path, asked: argparse.Namespace, notes: list[str]) -> list[list[str]]:
    """Both methods of Tip-Adapter, which its main.py runs."""
    commands = []
    for method in ("tip_adapter", "tip_adapter_f"):
        options: dict[str, Any] = {}
        for name, key in released(method).keys.items():
            options |= key.options(config.get(name, key.default))
        if "search_scale" in config:
            options |= dict(zip(("beta_max", "alpha_max"), _numbers(config, "search_scale", 2, path), strict=True))
        shots = str(asked.shot or config.get("shots", 16))
        command = ["train", "--method", method, *_places(config, asked), "--shots", shots, "--seed", "1"]
        commands.append([*command, *assigned(method, options)])
    _without_counterpart(config, notes)
    return commands


def _ape(config: Mapping[str, Any], path: Path, asked: argparse.Namespace, notes: list[str]) -> list[list[str]]:
    """Both methods of APE. Its features are drawn by seed 1, whatever the file's seed."""
    if not config.get("dataset"):
        raise ValueError(f"train: {path} names no data set. Add a line such as dataset: dtd.")
    beta, alpha, gamma = _numbers(config, "search_scale", 3, path)
    searched = {"beta_max": beta, "alpha_max": alpha}
    own = {
        "ape": {"gamma_max": gamma, "gammas": int(_numbers(config, "search_step", 3, path)[2])}
        | _refined(config, "training_free_feat_num", "w_training_free", path),
        "ape_t": _refined(config, "training_feat_num", "w_training", path),
    }
    shots = asked.shot or 1
    commands = []
    for method, more in own.items():
        options = _given(method, config) | searched | more
        data, backbone = data_name(str(config["dataset"])), str(config.get("backbone", "RN50"))
        settings = beside_recipe(method, "few_shot", shots, data, backbone, options)
        command = ["train", "--method", method, *_places(config, asked), "--shots", str(shots), "--seed", "1"]
        commands.append([*command, "--recipe", "few_shot", *settings])
    notes.append("CuPL's descriptions, which the release averages with the sentences, are not taken.")
    _without_counterpart(config, notes)
    return commands


def _refined(config: Mapping[str, Any], channels: str, weights: str, path: Path) -> dict[str, float]:
    """Share and balance of the channels that are looked at, of which the file has the number."""
    from cliptune.clip.weights.openai import OPENAI_CONFIGS, canonical_name

    backbone = str(config.get("backbone", "RN50"))
    known = canonical_name(backbone)
    if known is None:
        raise ValueError(
            f"train: {path} counts channels, and how many {shown(backbone)} has is not known. Name one of OpenAI's "
            "backbones, or give --method ape and --set share=…"
        )
    balance, _ = _numbers(config, weights, 2, path)
    return {"share": number(config, channels, 0) / OPENAI_CONFIGS[known].embed, "balance": balance}


def _gda(config: Mapping[str, Any], path: Path, asked: argparse.Namespace, notes: list[str]) -> list[list[str]]:
    """One of GDA's three scripts, told by the file: each has seeds 1 to 3, the first all numbers of shots as well."""
    data, backbone = data_name(str(config["dataset"])), str(config.get("backbone", "RN50"))
    shots = str(asked.shot or config.get("shots", 16))
    if str(config.get("subsample_classes")) == "base":
        protocol = "base2new"
    elif path.parent.name == "robustness" or "train_epoch" in config:
        protocol = "domains"
    else:
        protocol, shots = "few_shot", str(asked.shot or "1,2,4,8,16")
    settings = beside_recipe("gda", protocol, None, data, backbone, _given("gda", config))
    command = ["bench", protocol, "--methods", "gda", *_places(config, asked), "--shots", shots, "--seeds", "1,2,3"]
    return [[*command, "--recipe", *settings]]


def baseline(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[str]:
    """Of LP++'s or ProLIP's main.py: --base_config, --dataset_config, --seed, --shots, and KEY VALUE behind --opts."""
    for name, default in (("base_config", "configs/base.yaml"), ("dataset_config", "configs/caltech101.yaml")):
        parser.add_argument(f"--{name}", default=default)
    for name, default in (("test_config_path", ""), *WEIGHTS):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--opts", "--opt", nargs=argparse.REMAINDER, default=[])
    asked = parser.parse_args(list(words))
    if asked.test_config_path:
        notes.append(f"--test_config_path {asked.test_config_path} was left out: a run is scored by cliptune eval RUN.")
    config: dict[str, Any] = {}
    for file in (asked.base_config, asked.dataset_config):
        if Path(file).is_file():
            config |= read_yaml(Path(file))
        elif file == asked.base_config:
            notes.append(f"There is no file {file} here, so the published settings stand for it.")
    config |= pairs(asked.opts)
    config.setdefault("dataset", Path(asked.dataset_config).stem)
    method = _BASELINES.get(str(config.get("method")))
    if method is None:
        raise ValueError(_not_a_baseline(config, asked.base_config))
    return (_lp_plus_plus if method == "lp_plus_plus" else _prolip)(config, asked, notes)


def _not_a_baseline(config: Mapping[str, Any], file: str) -> str:
    if "method" not in config:
        return f"train: {file} does not say which method. Give that file, or --opts method {' or '.join(_BASELINES)}."
    method = shown(str(config["method"]))
    if method == "ProLIP_eval":
        return f"train: {method} scores a finished run: cliptune eval RUN --classes new, or --data NAME."
    return f"train: method {method} has no counterpart here. Known of these files: {', '.join(_BASELINES)}."


def _lp_plus_plus(config: Mapping[str, Any], asked: argparse.Namespace, notes: list[str]) -> list[str]:
    """As many draws of images as the file has tasks, their seeds from 1 on."""
    shots, tasks = int(asked.shots or number(config, "shots", 4)), int(number(config, "tasks", 10))
    if tasks < 1:
        raise ValueError(
            f"train: tasks should be at least 1, got {tasks}. Give how many draws of images to learn from."
        )
    if asked.seed != 1:
        notes.append(f"--seed {asked.seed} was left out: the draws of images have seeds from 1 on.")
    where = [*_places(config, asked), "--shots", str(shots)]
    data, backbone = data_name(str(config["dataset"])), config.get("backbone")
    settings = beside_recipe("lp_plus_plus", "few_shot", shots, data, backbone, _given("lp_plus_plus", config))
    if tasks == 1:
        command = ["train", "--method", "lp_plus_plus", *where, "--seed", "1", "--recipe", "few_shot"]
        return [*command, *_out(config), *settings]
    seeds = ",".join(str(seed) for seed in range(1, tasks + 1))
    command = ["bench", "few_shot", "--methods", "lp_plus_plus", *where, "--seeds", seeds, "--recipe"]
    return [*command, *_out(config), *settings]


def _out(config: Mapping[str, Any]) -> list[str]:
    return ["--out", str(config["output_dir"])] if config.get("output_dir") else []


def _prolip(config: Mapping[str, Any], asked: argparse.Namespace, notes: list[str]) -> list[str]:
    if _yes(config.get("save_features")):
        raise ValueError("train: save_features only keeps features. There is nothing to do here: leave that line out.")
    shots = int(asked.shots or 1)
    options = _given("prolip", config)
    if _yes(config.get("search_lr")):
        notes.append(
            "search_lr was left out: rate and weight are those of the recipe. To choose them on validation images: "
            "cliptune bench few_shot --methods prolip --tune lr=… --tune weight=…"
        )
    elif _yes(config.get("lambda_funct_1_N")):
        options["weight"] = None
    elif _yes(config.get("lambda_funct_1_N2")):
        options["weight"] = 1 / shots**2
    elif "lambda_v" in config:
        options["weight"] = number(config, "lambda_v", 0)
    if "aug_views" in config and number(config, "aug_views", 300) < number(config, "train_epoch", 300):
        notes.append(f"aug_views {config['aug_views']} was left out: every epoch sees new views.")
    data, backbone = data_name(str(config["dataset"])), config.get("backbone")
    base = str(config.get("SUBSAMPLE_CLASSES", "all")) == "base"
    protocol = "base2new" if base else "few_shot"
    settings = beside_recipe("prolip", protocol, shots, data, backbone, options)
    command = ["train", "--method", "prolip", *_places(config, asked), "--shots", str(shots), "--seed", str(asked.seed)]
    return [*command, *(["--classes", "base"] if base else []), "--recipe", protocol, *_out(config), *settings]


def stream(parser: argparse.ArgumentParser, words: Sequence[str], notes: list[str]) -> list[list[str]]:
    """Of TDA's tda_runner.py: --config FOLDER, --datasets a/b/c, --data-root, --backbone."""
    for name, default in (("data-root", ""), *WEIGHTS):
        parser.add_argument(f"--{name}", default=default)
    for name in ("config", "datasets", "backbone"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--wandb-log", action="store_true")
    asked = parser.parse_args(list(words))
    return [_streamed(name, asked, notes) for name in asked.datasets.split("/") if name]


def _streamed(name: str, asked: argparse.Namespace, notes: list[str]) -> list[str]:
    letter = "imagenet" if name == "I" else f"imagenet_{name.lower()}" if name in _LETTERS else name
    path, data = Path(asked.config).expanduser() / f"{letter}.yaml", data_name(_LETTERS.get(name, name))
    options: dict[str, Any] = {}
    if path.is_file():
        config = flat(read_yaml(path))
        if not _yes(config.get("positive.enabled", True)):
            raise ValueError(f"train: without the cache of likely classes, as in {path}, TDA has no counterpart here.")
        options = _given("tda", config)
        if not _yes(config.get("negative.enabled", True)):
            options["negative_alpha"] = 0.0
    else:
        notes.append(f"There is no file {path} here, so the published settings stand for it.")
    where = ["--data", data, *(["--root", asked.data_root] if asked.data_root else [])]
    where += ["--backbone", asked.backbone, *said(asked), "--shots", "0", "--seed", "1"]
    settings = beside_recipe("tda", "cross", None, data, asked.backbone, options)
    return ["train", "--method", "tda", *where, "--recipe", "cross", *settings]


def _given(method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Our options for what a file says, and those that the released code implies."""
    known = released(method)
    options = dict(known.options)
    for name, key in known.keys.items():
        options |= key.options(config[name]) if name in config else {}
    return options


def _places(config: Mapping[str, Any], asked: argparse.Namespace) -> list[str]:
    """Data, root and backbone."""
    words = ["--data", data_name(str(config["dataset"]))]
    words += ["--root", str(config["root_path"])] if config.get("root_path") else []
    words += ["--backbone", str(config["backbone"])] if config.get("backbone") else []
    return [*words, *said(asked)]


def _without_counterpart(config: Mapping[str, Any], notes: list[str]) -> None:
    for name in ("load_cache", "load_pre_feat"):
        if _yes(config.get(name)):
            notes.append(f"{name} was left out: features are computed anew, or taken from an unfinished run.")
    steps = config.get("search_step", _STEPS)
    if not isinstance(steps, list) or steps[:2] != _STEPS:
        notes.append(f"search_step {shown(repr(steps))} was left out: the grid has 200 × 20 places.")


def _yes(value: Any) -> bool:
    return str(value).lower() == "true"


def _numbers(config: Mapping[str, Any], name: str, count: int, path: Path) -> list[float]:
    value = config.get(name)
    if not isinstance(value, list) or len(value) != count or not all(isinstance(one, int | float) for one in value):
        many = {2: "two", 3: "three"}[count]
        raise ValueError(f"train: {name} in {path} must be {many} numbers, got {shown(repr(value))}. Correct the file.")
    return value
