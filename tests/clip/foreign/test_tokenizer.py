"""Tokenizers of transformers: ids as open_clip's, words found by offsets, cleaning and what is said of it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import HFTokenizer

from cliptune.clip.foreign.tokenizer import LibraryTokenizer, canonical, library_tokenizer
from cliptune.clip.tokens import TokenBatch
from cliptune.texts import ClassSet, ContextPhrasing, TemplatePhrasing
from tests.clip.foreign.tiny import tiny_pair
from tests.clip.foreign.vocabularies import bert, sentencepiece

SENTENCES = ["a photo of a cat.", "Black-Eyed  Susan's &amp; the_dog!", "", "a picture of the A340-300, blue jay"]
NAMES = ("golden retriever", "Boeing 737-800", "black-eyed susan", "snow", "red_fox")
KINDS = {
    "siglip": ({"clean": "canonicalize"}, sentencepiece),
    "worldwide": ({}, lambda folder: sentencepiece(folder, front=True)),
    "clipa": ({"strip_sep_token": True}, bert),
    "bert": ({"clean": "lower"}, bert),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory) -> tuple[dict, Path]:
    options, make = KINDS[request.param]
    return options, make(tmp_path_factory.mktemp(request.param))


def opened(kind: tuple[dict, Path], **more: str) -> LibraryTokenizer:
    options, folder = kind
    text = {"hf_tokenizer_name": "somewhere/else", "tokenizer_kwargs": options}
    return library_tokenizer(text, folder, "Backbone tiny", True, **more)


def test_ids_are_open_clips(kind):
    options, folder = kind
    theirs = HFTokenizer(str(folder), context_length=32, **options)
    assert torch.equal(opened(kind)(SENTENCES, context_length=32), theirs(SENTENCES))


def test_marks_are_where_the_text_ends_and_begins(kind):
    tokenizer = opened(kind)
    ids = tokenizer(SENTENCES, context_length=32)
    marks = tokenizer.marks(ids)
    for row, sentence in enumerate(SENTENCES):
        pieces = tokenizer.pieces(sentence)[1]
        assert marks["ends"][row] == marks["head"] + len(pieces)
        assert ids[row, marks["head"] : marks["ends"][row]].tolist() == pieces
    layout = TokenBatch.plain(ids, **marks).layout
    assert int(layout.mask("sos").sum()) == len(SENTENCES) * marks["head"]
    assert int(layout.mask("eot").sum()) == len(SENTENCES)


def with_tokenizer(kind: tuple[dict, Path], **more: str):
    clip = copy.copy(tiny_pair("siglip")[1])
    clip.tokenizer = opened(kind, **more)
    return clip


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("words", ["a photo of a", ""])
def test_a_context_and_a_name_are_the_tokens_of_the_sentence(kind, position, words):
    clip = with_tokenizer(kind)
    n = len(clip.tokenizer.pieces(words)[1]) if words else 3
    phrasing = ContextPhrasing(n, words, position)
    texts = phrasing(clip, ClassSet(NAMES))
    lead = phrasing.lead(clip).tolist()[:n]
    head = texts.head
    for row, name in enumerate(ClassSet(NAMES).words):
        body = texts.ids[row, head : int(texts.eot[row])].tolist()
        slots = [slot - head for slot in texts.slots[row].tolist()]
        assert [body[slot] for slot in slots] == lead
        rest = [index for place, index in enumerate(body) if place not in slots]
        sentence = clip.tokenizer.pieces(f"a photo of a {name}.")[1]
        assert rest == sentence[len(sentence) - len(rest) :]  # the name and the full stop, as after a word
        if position == "end":
            assert slots == list(range(n))
        if words and position == "end":
            assert body == sentence
        if position == "front":
            name_length = min(slots)
            assert slots == list(range(name_length, name_length + n))


def test_words_that_are_not_learned_stay_in_front_of_the_name(kind):
    clip = with_tokenizer(kind)
    whole = TemplatePhrasing(("a photo of a {}.",))(clip, ClassSet(NAMES))
    part = ContextPhrasing(2, "a photo of a")(clip, ClassSet(NAMES))
    assert torch.equal(whole.ids, part.ids)
    assert torch.equal(part.slots, torch.tensor([[part.head, part.head + 1]] * len(NAMES)))
    assert ContextPhrasing(2, "a photo of a").start(clip).shape == (2, 24)


def test_a_text_that_is_too_long_is_named(kind):
    tokenizer = opened(kind)
    long = "a photo of a cat " * 20
    with pytest.raises(ValueError, match="may have at most 16 tokens .*'a photo of a cat"):
        tokenizer(["cat", long], context_length=16)
    cut = tokenizer([long], context_length=16, truncate=True)
    assert cut[0, -1] == tokenizer.behind[-1]
    with pytest.raises(ValueError, match="text 0 with its learned tokens has"):
        tokenizer.framed([[5] * 40], 32)
    with pytest.raises(TypeError, match="must be a str, got int"):
        tokenizer([3])  # type: ignore[list-item]


def test_a_token_is_named_with_where_words_begin(kind):
    tokenizer = opened(kind)
    _, ids, starts = tokenizer.pieces("a photo of a golden retriever")
    words, apart = {0, 2, 8, 11, 13, 20}, False
    for index, start in zip(ids, starts, strict=True):
        # A space in front belongs to the word in sentencepiece's offsets, or is a token of its own.
        begins = (start in words or start + 1 in words) and not apart
        written = tokenizer.decode([index])
        assert written.endswith(" ") == begins
        apart = written == " "
    assert tokenizer.decode([ids[0]]) == "a "
    assert tokenizer.decode(ids).strip() == "a photo of a golden retriever"
    assert not tokenizer.decode([tokenizer.behind[-1] or tokenizer.tokenizer.pad_token_id]).endswith(" ")


def test_learned_tokens_are_near_words_of_their_vocabulary(kind):
    from cliptune.analysis.words import nearest_words
    from cliptune.methods import build

    clip = with_tokenizer(kind)
    adapter = build("coop", clip, NAMES, words="a photo of a", n_ctx=4).adapter
    found = nearest_words(adapter, k=2)
    ids = clip.tokenizer.pieces("a photo of a")[1]
    assert [token.words[0] for token in found.tokens] == [clip.tokenizer.decode([i]).strip() for i in ids[:4]]
    assert all(token.distances[0] == 0 for token in found.tokens)


def test_canonical_text_is_big_visions():
    assert canonical("black-eyed  Susan") == "blackeyed susan"
    assert canonical("A340-300") == "a340300"
    assert canonical("red_fox, isn't (it)?") == "red fox isnt it"
    assert canonical("a naïve café – open") == "a naïve café – open"  # ASCII punctuation alone


def test_glued_names_are_told_and_hyphens_may_be_spaces(tmp_path):
    made = (KINDS["siglip"][0], sentencepiece(tmp_path))
    clip = with_tokenizer(made)
    texts = TemplatePhrasing()(clip, ClassSet(NAMES))
    assert len(texts.notes) == 1
    assert "'black-eyed susan' is read as 'blackeyed susan'" in texts.notes[0]
    assert "'Boeing 737-800' is read as 'boeing 737800'" in texts.notes[0]
    assert "--hyphens space" in texts.notes[0]
    assert ContextPhrasing(2)(clip, ClassSet(NAMES)).notes == texts.notes
    apart = with_tokenizer(made, hyphens="space")
    assert apart.tokenizer.pieces("black-eyed susan")[0] == "black eyed susan"
    assert TemplatePhrasing()(apart, ClassSet(NAMES)).notes == ()
    assert "is read as 'st johns'" in apart.tokenizer.notes(["st. john's"])[0]
    assert TemplatePhrasing()(clip, ClassSet(("snow", "red_fox"))).notes == ()


def test_a_tokenizer_survives_copies_and_other_processes(tmp_path):
    tokenizer = opened((KINDS["siglip"][0], sentencepiece(tmp_path)))
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert torch.equal(other(SENTENCES), tokenizer(SENTENCES))


def test_what_cannot_be_followed_or_found_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = {"hf_tokenizer_name": "nobody/no-such-tokenizer"}
    with pytest.raises(FileNotFoundError, match="its tokenizer nobody/no-such-tokenizer cannot be opened in the hub's"):
        library_tokenizer(text, tmp_path, "Backbone tiny", True)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"cannot be opened in {tmp_path}"):
        library_tokenizer(text, tmp_path, "Backbone tiny", True)
    for wrong, sentence in (
        ({**text, "tokenizer_mode": "clips"}, "way of tokenizing 'clips' cannot be followed"),
        ({**text, "tokenizer_kwargs": {"language": "de"}}, "tokenizer_kwargs holds language"),
    ):
        with pytest.raises(ValueError, match=sentence):
            library_tokenizer(wrong, tmp_path, "Backbone tiny", True)
    (tmp_path / "good").mkdir()
    good = sentencepiece(tmp_path / "good")
    with pytest.raises(ValueError, match="clean must be one of whitespace, lower, canonicalize, got 'washed'"):
        opened(({"clean": "washed"}, good))
    with pytest.raises(ValueError, match="hyphens must be one of glue, space, got 'cut'"):
        opened(({}, good), hyphens="cut")
