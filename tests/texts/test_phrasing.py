"""Where the prompt places stand in a sentence, and how templates average."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.texts import ClassSet, ContextPhrasing, TemplatePhrasing, ensemble
from tests.conftest import CLASS_NAMES

CLASSES = ClassSet(CLASS_NAMES)


def written(clip, texts, row: int) -> list[str]:
    """The tokens of a sentence, with learned places as '*'."""
    end = int(texts.eot[row])
    words = [clip.tokenizer.decode([i]).strip() for i in texts.ids[row, 1:end].tolist()]
    for place in texts.slots[row].tolist():
        words[place - 1] = "*"
    return words


def test_places_stand_where_the_position_says(tiny_clip):
    end, middle, front = (ContextPhrasing(5, "", p)(tiny_clip, CLASSES) for p in ("end", "middle", "front"))
    assert written(tiny_clip, end, 0) == ["*"] * 5 + ["golden", "retriever", "."]
    assert written(tiny_clip, middle, 0) == ["*"] * 2 + ["golden", "retriever"] + ["*"] * 3 + ["."]
    assert written(tiny_clip, front, 0) == ["golden", "retriever"] + ["*"] * 5 + ["."]
    assert torch.equal(end.eot, middle.eot)
    assert torch.equal(end.eot, front.eot)


def test_words_beyond_n_ctx_stay_in_the_sentence(tiny_clip):
    texts = ContextPhrasing(2, "a photo of a")(tiny_clip, CLASSES)
    assert written(tiny_clip, texts, 1) == ["*", "*", "of", "a", "forest", "."]
    assert texts.shared_length == 5


def test_start_is_the_embedding_of_the_words(tiny_clip):
    start = ContextPhrasing(3, "a_photo of a").start(tiny_clip)
    ids = [tiny_clip.tokenizer.encode(w)[0] for w in ("a", "photo", "of")]
    torch.testing.assert_close(start, tiny_clip.text.token_embedding.weight[ids].detach())


def test_impossible_contexts_say_so(tiny_clip):
    with pytest.raises(ValueError, match="'a photo' has 2 tokens, but n_ctx is 4"):
        ContextPhrasing(4, "a photo")(tiny_clip, CLASSES)
    with pytest.raises(ValueError, match="n_ctx must be 4"):
        ContextPhrasing(2, "a photo of a", "front")(tiny_clip, CLASSES)
    with pytest.raises(ValueError, match="end, middle, front, got 'behind'"):
        ContextPhrasing(2, "", "behind")
    with pytest.raises(ValueError, match="at least 1"):
        ContextPhrasing(0)


def test_class_names_and_templates_are_checked():
    with pytest.raises(ValueError, match="at least one class name"):
        ClassSet(())
    with pytest.raises(ValueError, match="got '  ' at position 1"):
        ClassSet(("cat", "  "))
    with pytest.raises(ValueError, match="must hold {} once"):
        ClassSet(("cat",), template="a photo")
    with pytest.raises(ValueError, match="Put it in a list"):
        ClassSet.of("cat")
    assert ClassSet(("sea_lake",)).words == ("sea lake",)


def test_ensemble_normalises_before_and_after_the_mean(tiny_clip):
    templates = ensemble("selected7")
    texts = TemplatePhrasing(templates)(tiny_clip, CLASSES)
    ours = texts.reduce(F.normalize(tiny_clip.encode_text(texts), dim=-1))[0]
    for c, name in enumerate(CLASS_NAMES):
        total = torch.zeros(16)
        for template in templates:
            feature = tiny_clip.encode_text(tiny_clip.tokenize([template.format(name)]))[0, 0]
            total += feature / feature.norm()
        mean = total / len(templates)
        torch.testing.assert_close(ours[c], mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_template_sets_have_their_published_sizes():
    assert [len(set(ensemble(name))) for name in ("selected7", "promptsrc60", "imagenet80")] == [7, 60, 80]
    assert set(ensemble("selected7")) <= set(ensemble("imagenet80"))
    assert "a photo of a {}." in ensemble("promptsrc60")
    with pytest.raises(ValueError, match="unknown ensemble"):
        ensemble("all")


LONG = "very " * 80 + "long name"
ENSEMBLE = ("a photo of a {}.", "one of the many good photos of the big {}.")


@pytest.mark.parametrize("phrasing", [TemplatePhrasing(), TemplatePhrasing(ENSEMBLE), ContextPhrasing(3, "a photo of")])
def test_a_name_that_is_too_long_is_refused_with_the_way_out(tiny_clip, phrasing):
    with pytest.raises(ValueError, match=r"The class name 'very very.*is too long.* 77 that.*--truncate"):
        phrasing(tiny_clip, ClassSet(("lynx", LONG)))


@pytest.mark.parametrize("phrasing", [TemplatePhrasing(), TemplatePhrasing(ENSEMBLE), ContextPhrasing(3, "a photo of")])
def test_a_name_is_cut_after_the_last_word_that_fits_in_all_sentences(tiny_clip, phrasing):
    classes = ClassSet(("lynx", LONG), truncate=True)
    texts = phrasing(tiny_clip, classes)
    assert "1 of 2 have more tokens than the text tower reads (77)" in texts.notes[0]
    rows = texts.ids[texts.class_of == 1]
    lengths = rows.argmax(1) + 1
    assert lengths.max() == 77  # the longest sentence is full
    words = [tiny_clip.tokenizer.decode(row[1 : n - 1]).split() for row, n in zip(rows, lengths.tolist(), strict=True)]
    assert len({told.count("very") for told in words}) == 1  # the same cut in every sentence
    assert all("long" not in told and told[-1] == "." for told in words)
    (whole,) = phrasing(tiny_clip, ClassSet(("lynx",))).ids[:1]
    assert torch.equal(texts.ids[0], whole)  # other names stay as they are


def test_a_word_without_spaces_is_cut_within(tiny_clip):
    texts = TemplatePhrasing()(tiny_clip, ClassSet(("lynx", "xq" * 100), truncate=True))
    assert int(texts.ids[1].argmax()) + 1 == 77


def test_names_that_are_one_text_once_they_are_cut_are_refused(tiny_clip):
    with pytest.raises(ValueError, match="two are one text once they are cut"):
        TemplatePhrasing()(tiny_clip, ClassSet((LONG, LONG + "er"), truncate=True))


def test_a_sentence_that_leaves_no_room_is_refused(tiny_clip):
    classes = ClassSet(("lynx", "puma"), "word " * 76 + "{}", truncate=True)
    with pytest.raises(ValueError, match="leaves no room for a class name"):
        TemplatePhrasing()(tiny_clip, classes)
