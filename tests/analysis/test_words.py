"""Nearest words, against distances written out."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.analysis.words import nearest_words
from cliptune.prompts.dual import DualPrompt
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES


def ids_of(clip, words):
    return [int(clip.tokenize([word]).ids[0, 1]) for word in words]


def test_tokens_that_are_words_are_nearest_to_themselves(tiny_clip):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES, n_ctx=4, words="a photo of a").adapter
    for metric in ("euclidean", "cosine"):
        found = nearest_words(adapter, metric=metric)
        assert [token.words[0] for token in found.tokens] == ["a", "photo", "of", "a"]
        assert all(token.distances[0] < 1e-5 for token in found.tokens)
    assert "'photo' (0.00)" in found.sentence()
    assert "0 of 4 tokens are farther" in found.sentence()
    assert found.vocabulary == "tiny, 49,408 entries"


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_are_written_out_and_in_order(tiny_clip, metric):
    adapter = learned(tiny_clip, "coop", n_ctx=4)
    found = nearest_words(adapter, k=3, metric=metric)
    table, rows = tiny_clip.text.token_embedding.weight, adapter.prompt().text.tokens[0]
    for token, row in zip(found.tokens, rows, strict=True):
        if metric == "euclidean":
            truth = ((table - row) ** 2).sum(-1).sqrt()
        else:
            truth = 1 - (table * row).sum(-1) / (table.norm(dim=-1) * row.norm())
        best = truth.sort()
        torch.testing.assert_close(torch.tensor(token.distances), best.values[:3], rtol=1e-4, atol=1e-4)
        words = tuple(tiny_clip.tokenizer.decode([i]).strip() for i in best.indices[:3].tolist())
        assert token.words == words


def test_whole_words_pass_over_pieces_and_signs(tiny_clip):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES, n_ctx=1, words="photo").adapter
    found = nearest_words(adapter, k=10, whole_words=True)
    (token,) = found.tokens
    assert token.words[0] == "photo"
    assert all(word.isalpha() for word in token.words)
    assert list(token.distances) == sorted(token.distances)


def test_deep_tokens_are_flagged_and_classes_named(tiny_clip):
    deep = nearest_words(learned(tiny_clip, "ivlp", depth_text=2), k=1)
    assert {token.layer: token.in_vocabulary_space for token in deep.tokens} == {0: True, 1: False}
    own = nearest_words(learned(tiny_clip, "coop", n_ctx=2, class_specific=True), k=1)
    assert [(token.class_name, token.position) for token in own.tokens[:3]] == [
        ("golden retriever", 0),
        ("golden retriever", 1),
        ("forest", 0),
    ]
    assert "of 'golden retriever'" in own.sentence()


def test_low_rank_tokens_are_merged_and_two_prompts_mixed(tiny_clip):
    words = "a photo of a"
    low = learned(tiny_clip, "coop+rlp", n_ctx=4, words=words)
    merged = low.prompt.eval()().text.tokens[0][0].detach()
    truth = (tiny_clip.text.token_embedding.weight - merged).norm(dim=-1).min()
    assert nearest_words(low, k=1).tokens[0].distances[0] == pytest.approx(float(truth), rel=1e-4)

    dual = methods.build("coop+dpc", tiny_clip, CLASS_NAMES, n_ctx=1, words="photo", dpc_base_weight=0.5).adapter
    assert isinstance(dual.prompt, DualPrompt)
    dual.prompt.open()
    other = ids_of(tiny_clip, ["sheep"])[0]
    dual.prompt.parallel.layers[0].value.data[0] = tiny_clip.text.token_embedding.weight[other]
    found = nearest_words(dual, k=1)
    assert [token.mixture for token in found.tokens] == [0.5, 0.0]
    assert found.tokens[1].words == ("photo",)
    a, b = (tiny_clip.text.token_embedding.weight[i] for i in (*ids_of(tiny_clip, ["photo"]), other))
    truth = (tiny_clip.text.token_embedding.weight - (a + b) / 2).norm(dim=-1).min()
    assert found.tokens[0].distances[0] == pytest.approx(float(truth), rel=1e-4)


def test_what_has_no_words_says_so(tiny_clip):
    assert "Each image moves them" in nearest_words(methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter).sentence()
    with pytest.raises(ValueError, match="learns no text tokens"):
        nearest_words(methods.build("vpt", tiny_clip, CLASS_NAMES).adapter)
    with pytest.raises(ValueError, match="expected k ≥ 1 and a metric"):
        nearest_words(methods.build("coop", tiny_clip, CLASS_NAMES).adapter, metric="manhattan")
