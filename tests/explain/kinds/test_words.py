"""`words` of finished runs."""

from __future__ import annotations

from cliptune.explain import explain


def test_words_of_a_run_with_both_metrics(opened):
    answer = explain(opened("coop"), ["words"])["words"]
    for of in (answer.found.entries, answer.found.whole_words):
        assert set(of) == {"euclidean", "cosine"}
        assert all(len(token.words) == 5 for token in of["euclidean"].tokens)
    assert answer.found.entries["euclidean"].vocabulary.startswith("mini")
    assert "Nearest words of the learned tokens" in answer.sentence
    assert list(answer.pictures) == ["distances"]


def test_image_prompts_have_no_words(opened):
    assert "No learned tokens enter the texts" in explain(opened("vpt"), ["words"])["words"].why_not
