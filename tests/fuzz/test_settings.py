"""Settings in YAML, of cliptune and of released code, and recipes in TOML."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from cliptune.cli.released.commands import in_our_words
from cliptune.cli.shared.settings import resolve
from cliptune.registry.building import find
from cliptune.registry.narrow import read_limits
from cliptune.registry.recipes import data_file, read_recipes
from cliptune.texts.word_list import read_word_list
from tests.fuzz.campaign import REFUSED, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, changed_values, values

ODD_YAML = (
    b"", b"null", b"[]", b"text", b"a: b: c", b"- " * 3000 + b"a", b"{a: " * 500, b"&a [*a]", b"a: &a {b: *a}",
    b"lr: 2001-99-99", b"lr: !!float x", b"lr: !!python/name:os.system", b"!!python/object/apply:os.getcwd []",
    b"lr: " + b"9" * 5000, b"n_ctx: 1:" + b"0:" * 60 + b"0", b"? [a]\n: b", b"%YAML 9.9\n---\na", b"\xff", b"a\0b",
    b"<<: 1",
    b"a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n", b"--- a\n--- b",
)  # fmt: skip


def to_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def yaml_cases(seeds: list[Any]) -> Any:
    written = [to_yaml(seed) for seed in seeds]
    others = changed_values(seeds).map(to_yaml) | changed_bytes(written)
    return st.one_of(others, values().map(to_yaml), st.sampled_from([*written, *ODD_YAML]))


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """What is imported at the first call makes folders of its own."""
    resolve("coop")


def test_settings(tmp_path):
    seeds = [
        {"n_ctx": 4, "words": "a photo of a", "class-specific": False, "lr": 0.002, "precision": "fp32", "views": None},
        {"options": {"n_ctx": 4, "lr": 0.002}, "stages": [], "precision": "bf16", "accumulate": 2, "select": "val"},
    ]

    def read(case: bytes) -> Any:
        (tmp_path / "settings.yaml").write_bytes(case)
        settings = resolve("coop", file=tmp_path / "settings.yaml")
        return {**settings.options, **settings.training}

    def plain(case: bytes) -> Any:
        """For lines of plain names, numbers and words alone."""
        try:
            content = yaml.safe_load(case)
        except Exception:
            return REFUSED
        kinds = {"n_ctx": int, "words": str, "class_specific": bool, "lr": float}
        if not isinstance(content, dict) or "stages" in content:
            return UNKNOWN
        named = {str(name).replace("-", "_"): value for name, value in content.items()}
        if len(named) < len(content) or not set(named) <= set(kinds) or len(str(named)) > 80:
            return UNKNOWN
        return named if all(type(value) is kinds[name] for name, value in named.items()) else UNKNOWN

    campaign("settings", yaml_cases(seeds), read, tmp_path, plain=plain)


def test_settings_of_released_code(tmp_path):
    trainer = {
        "DATALOADER": {"TRAIN_X": {"BATCH_SIZE": 32}},
        "INPUT": {"SIZE": [224, 224]},
        "OPTIM": {"NAME": "sgd", "LR": 0.002, "MAX_EPOCH": 50},
        "MODEL": {"BACKBONE": {"NAME": "ViT-B/16"}},
        "TRAINER": {"COOP": {"N_CTX": 16, "CSC": False}},
    }
    tip = {"dataset": "caltech101", "root_path": "data", "shots": 16, "backbone": "RN50", "init_alpha": 1.0}
    tip |= {"init_beta": 1, "search_scale": [7, 3], "search_step": [200, 20], "lr": 0.001, "train_epoch": 20}

    def read(case: tuple[bool, bytes]) -> Any:
        path = tmp_path / "config.yaml"
        path.write_bytes(case[1])
        words = ["--trainer", "CoOp", "--config-file", str(path), "--dataset-config-file", "caltech101.yaml"]
        with contextlib.redirect_stderr(io.StringIO()) as remarks:
            found = in_our_words(["train", "--config", str(path)] if case[0] else ["train", *words])
        assert "\x1b" not in remarks.getvalue()
        return found

    cases = st.tuples(st.just(False), yaml_cases([trainer])) | st.tuples(st.just(True), yaml_cases([tip]))
    campaign("settings of released code", cases, read, tmp_path)


def test_recipes(tmp_path):
    coop = data_file("coop").read_bytes()
    odd = (
        b"",
        b"a = [" * 500,
        b"[few_shot]",
        b"[[few_shot]]",
        b"few_shot = [1]",
        b"a = 9999-99-99",
        b"a = " + b"9" * 5000,
    )
    cases = changed_bytes([coop]) | st.sampled_from(odd) | changed_bytes(odd)
    known: Path = tmp_path / "recipes.toml"

    def read(case: bytes) -> Any:
        known.write_bytes(case)
        return read_recipes(case.decode("utf-8", "replace"), "coop")

    campaign("recipes", cases, read, tmp_path)


def test_limits_of_narrow_towers(tmp_path):
    rlp = data_file("rlp").read_bytes()
    odd = (b"narrow = 1", b"[narrow]\nrlp_rank = 1", b"[narrow.steps]", b"[[narrow]]", b"narrow.rlp_rank.works = true")
    cases = changed_bytes([rlp]) | changed_bytes(odd) | st.sampled_from(odd)

    def read(case: bytes) -> Any:
        return read_limits(case.decode("utf-8", "replace"), find("rlp"), "rlp.toml")

    campaign("limits of narrow towers", cases, read, tmp_path)


def test_word_lists(tmp_path):
    seeds = (b"# behind our parts\nsea\n\n  a wall \n", "\ufeffMeer\nHäuser\r\nsea".encode())
    odd = (b"", b"#", b"\n" * 5000, b"\xff\xfe\x00", b"a\0b", "\u2028\u2029".encode(), b"sea " * 3000)

    def read(case: bytes) -> Any:
        (tmp_path / "words.txt").write_bytes(case)
        return read_word_list(tmp_path / "words.txt")

    def plain(case: bytes) -> Any:
        """For lines of plain letters alone."""
        lines = case.split(b"\n")
        if not all(line.isalpha() for line in lines if line) or not case.isascii():
            return UNKNOWN
        return tuple(dict.fromkeys(line.decode() for line in lines if line)) or REFUSED

    campaign("word lists", changed_bytes(seeds) | st.sampled_from((*seeds, *odd)), read, tmp_path, plain=plain)
