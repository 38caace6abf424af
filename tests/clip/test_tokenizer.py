"""The tokenizer against ids and texts stored from the published one."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from cliptune.clip import tokenizer as module
from cliptune.clip.tokenizer import VOCABULARY, Tokenizer, default_tokenizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizer.json").read_text(encoding="utf-8"))
TRICKY = GOLDEN["tricky"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return default_tokenizer()


@pytest.mark.parametrize("case", TRICKY, ids=range(len(TRICKY)))
def test_tricky_text_gives_the_published_ids_and_decoding(tokenizer, case):
    assert tokenizer.encode(case["text"]) == case["ids"]
    assert tokenizer.decode(case["ids"]) == case["decoded"]
    assert tokenizer.decode(torch.tensor(case["ids"], dtype=torch.int64)) == case["decoded"]


def test_table_is_start_ids_end_zeros(tokenizer):
    table = tokenizer([case["text"] for case in TRICKY], truncate=True)
    assert table.shape == (len(TRICKY), 77)
    assert table.dtype == torch.int64
    for row, case in zip(table.tolist(), TRICKY, strict=True):
        expected = case.get("ids_77") or [49406, *case["ids"], 49407]
        assert row == expected + [0] * (77 - len(expected))


def test_class_prompts_give_the_published_ids(tokenizer):
    classes = GOLDEN["classes"]
    table = tokenizer([classes["template"].format(name) for name in classes["names"]])
    assert [[index for index in row if index] for row in table.tolist()] == classes["ids"]


@pytest.mark.parametrize("case", GOLDEN["truncated_to_8"], ids=lambda case: case["text"][:12])
def test_truncation_keeps_the_end_token_last(tokenizer, case):
    assert tokenizer(case["text"], context_length=8, truncate=True).tolist() == [case["ids"]]


def test_text_that_does_not_fit_is_named(tokenizer):
    for case in TRICKY:
        if case["too_long_for_77"]:
            with pytest.raises(ValueError, match=r"at most 77 tokens .* text 1, .* truncate=True"):
                tokenizer(["short", case["text"]])
        else:
            assert tokenizer(case["text"]).shape == (1, 77)


def test_special_ids_and_size(tokenizer):
    assert (tokenizer.sot, tokenizer.eot, tokenizer.vocab_size) == (49406, 49407, 49408)
    assert tokenizer([]).shape == (0, 77)


def test_wrong_input_is_a_sentence(tokenizer):
    with pytest.raises(TypeError, match=r"must be a str, got int \(3\)"):
        tokenizer(["a cat", 3])
    with pytest.raises(ValueError, match="between 0 and 49407, got 49408"):
        tokenizer.decode([49408])
    with pytest.raises(ValueError, match="context_length must be at least 2"):
        tokenizer("a cat", context_length=1)


def test_copies_share_the_one_tokenizer(tokenizer):
    assert default_tokenizer() is tokenizer
    assert copy.deepcopy(tokenizer) is tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) is tokenizer


def test_memory_of_words_is_bounded_and_harmless(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED_WORDS", 4)
    fresh = Tokenizer()
    text = "several different words and then several different words again"
    assert fresh.encode(text) == tokenizer.encode(text)
    assert len(fresh._words) <= 4


def test_vocabulary_is_the_published_file():
    digest = hashlib.sha256(VOCABULARY.read_bytes()).hexdigest()
    licence = (VOCABULARY.parent / "LICENSE").read_text(encoding="utf-8")
    assert digest in licence
    assert "Copyright (c) 2021 OpenAI" in licence


def test_damaged_vocabulary_is_named(tmp_path, monkeypatch):
    damaged = tmp_path / "merges.txt.gz"
    damaged.write_bytes(gzip.compress(b"#version\na b\n"))
    monkeypatch.setattr(module, "VOCABULARY", damaged)
    with pytest.raises(ValueError, match=r"must hold 48894 merges .* damaged"):
        Tokenizer()
