"""Caches of the images that came before, against the formulas of the release written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cliptune.heads import StreamHead
from cliptune.registry import build
from tests.training.support import squares

CLASSES, WIDTH = 6, 10
SETTINGS = {"alpha": 2.0, "beta": 5.0, "shots": 2, "negative_alpha": 0.7, "negative_beta": 1.0, "negative_shots": 1}
ENDS = {"least": 0.2, "most": 0.5, "unlikely": (0.03, 1.0)}


def head(**settings) -> StreamHead:
    return StreamHead(**{**SETTINGS, **ENDS, "order": 3, **settings}).eval()


def drawn(n: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit image features (n, D), votes of the texts (n, C), embeddings; about half of the images are unsure."""
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(CLASSES, WIDTH, generator=generator), dim=-1)
    embedding = 3 * torch.randn(n, WIDTH, generator=generator)
    feature = F.normalize(embedding, dim=-1)
    return feature, 6.0 * feature @ texts.T, embedding


def answered(h: StreamHead, votes: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    return h(votes[:, None], None, embedding[:, None])


def as_released(feature: torch.Tensor, votes: torch.Tensor, **settings) -> torch.Tensor:
    """Image by image, with dictionaries of lists: what the release's runner does."""
    known = {**SETTINGS, **ENDS, **settings}
    positive: dict[int, list] = {}
    negative: dict[int, list] = {}

    def put(cache, label, item, capacity):
        rows = cache.setdefault(label, [])
        if len(rows) < capacity:
            rows.append(item)
        elif item[1] < rows[-1][1]:
            rows[-1] = item
        rows.sort(key=lambda row: row[1])

    answers = []
    for f, z in zip(feature, votes, strict=True):
        p = z.softmax(-1)
        entropy = float(-(p * p.log()).sum())
        label = int(z.argmax())
        put(positive, label, (f, entropy), known["shots"])
        if known["least"] < entropy / math.log2(CLASSES) < known["most"]:
            put(negative, label, (f, entropy, p), known["negative_shots"])
        answer = z.clone()
        for c, rows in positive.items():
            for key, _ in rows:
                answer[c] += known["alpha"] * math.exp(-known["beta"] * (1 - float(f @ key)))
        for rows in negative.values():
            for key, _, probability in rows:
                near = math.exp(-known["negative_beta"] * (1 - float(f @ key)))
                for c in range(CLASSES):
                    if known["unlikely"][0] < probability[c] < known["unlikely"][1]:
                        answer[c] -= known["negative_alpha"] * near
        answers.append(answer)
    return torch.stack(answers)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shots": 1, "negative_shots": 3},
        {"negative_alpha": 0.0},
        {"unlikely": (0.2, 0.6), "least": 0.0, "most": 0.7},
    ],
)
def test_answers_are_those_of_the_release(settings):
    feature, votes, embedding = drawn()
    told = answered(head(**settings), votes, embedding)
    torch.testing.assert_close(told, as_released(feature, votes, **settings), rtol=1e-4, atol=1e-4)
    assert (told - votes).abs().max() > 0.5


def test_equal_entropies_leave_who_came_first():
    feature, _, embedding = drawn(3)
    votes = torch.zeros(3, CLASSES)
    votes[:, 1] = 2.0
    torch.testing.assert_close(
        answered(head(shots=1), votes, embedding), as_released(feature, votes, shots=1), rtol=1e-4, atol=1e-4
    )


def test_a_stream_goes_on_over_batches_and_ends():
    _, votes, embedding = drawn()
    h = head()
    whole = answered(h, votes, embedding)
    with h.stream():
        parts = [answered(h, votes[i : i + 7], embedding[i : i + 7]) for i in range(0, len(votes), 7)]
        with h.stream():
            assert torch.equal(answered(h, votes, embedding), whole)  # a stream of its own
        again = answered(h, votes[:7], embedding[:7])
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(again, whole[:7])  # the images before are remembered
    assert torch.equal(answered(h, votes[:7], embedding[:7]), whole[:7])  # and forgotten


def test_evaluation_shows_the_images_in_the_seeds_order_and_answers_in_the_splits(tiny_clip):
    from cliptune.registry import build
    from cliptune.training import evaluate

    data = squares()
    adapter = build("tda", tiny_clip, data.class_names, order=4).adapter
    logits = evaluate(adapter, data.test, keep_logits=True, batch_size=5).logits
    place = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(4)).tolist()
    shown = adapter.logits([data.test.image(i) for i in place])
    torch.testing.assert_close(logits[place], shown, rtol=1e-4, atol=1e-4)
    embeddings = torch.cat([adapter.clip.encode_image(adapter.views(b, None)) for b in _batches(adapter, data.test)])
    torch.testing.assert_close(
        evaluate(adapter, data.test, embeddings=embeddings, keep_logits=True).logits, logits, rtol=1e-4, atol=1e-4
    )
    other = evaluate(adapter, data.test, keep_logits=True, order=5).logits
    assert not torch.allclose(other, logits)
    plain = build("zeroshot", tiny_clip, data.class_names).adapter
    one, two = (evaluate(plain, data.test, keep_logits=True, order=order).logits for order in (None, 5))
    assert torch.equal(one, two)


def _batches(adapter, split):
    from cliptune.data.loader import batches
    from cliptune.data.transforms import test_transform as prepared

    transform = prepared(adapter.resolution, preprocessing=adapter.clip.preprocessing)
    return batches(split, transform, 100, shuffle=False, seed=0, workers=0, device=adapter.clip.device)


def test_the_order_is_kept_with_the_run_and_drawn_by_its_seed(tiny_clip):
    from cliptune.registry import build

    first, same, other = (build("tda", tiny_clip, ("red", "green"), seed=seed).adapter for seed in (1, 1, 2))
    assert first.head.order == same.head.order != other.head.order
    other.load_learnables(first.learnables())
    assert other.head.order == first.head.order


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.0}, "beta must be above 0"),
        ({"negative_shots": 0}, "negative_shots must be at least 1 image of a class"),
        ({"negative_alpha": -0.1}, "negative_alpha must be at least 0"),
        ({"least": 0.5, "most": 0.2}, "a lower end below the upper one"),
        ({"unlikely": (0.5, 1.5)}, "a lower end below the upper one"),
    ],
)
def test_settings_out_of_range_are_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        head(**settings)


def test_the_surest_views_stand_for_an_image():
    """Of 20 views the two with the smallest entropy, as the release's get_clip_logits joins them."""
    feature, votes, embedding = (one.unflatten(0, (3, 20)) for one in drawn())
    joined = []
    for z, f in zip(votes, feature, strict=True):
        p = z.softmax(-1)
        chosen = (-(p * p.log()).sum(-1)).argsort()[:2]
        mean = p[chosen].mean(0)
        joined.append((z[chosen].mean(0), f[chosen].mean(0), mean, float(-(mean * mean.log()).sum())))
    expected, seen = [], []
    for z, f, _, entropy in joined:
        label = int(z.argmax())
        seen.append((label, f, entropy))
        best = {c: sorted((e, i) for i, (k, _, e) in enumerate(seen) if k == c)[:2] for c in range(CLASSES)}
        answer = z.clone()
        for c, rows in best.items():
            for _, i in rows:
                answer[c] += 2.0 * torch.exp(-5.0 * (1 - f @ seen[i][1]))
        expected.append(answer)
    found = head(negative_alpha=0.0, surest=0.1)(votes, None, embedding)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="surest must be above 0 and at most 1"):
        head(surest=0.0)


def test_tda_with_views_answers_images_one_after_the_other(tiny_clip):
    recipe = build("tda", tiny_clip, ("circle", "star", "moon"), views=9)
    adapter = recipe.adapter.eval()
    images = torch.rand(4, 3, 32, 32)
    whole = adapter.logits(images)
    with adapter.head.stream():
        parts = torch.cat([adapter.logits(images[:1]), adapter.logits(images[1:])])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="views must be at least 0"):
        build("tda", tiny_clip, ("circle", "star"), views=-1)
