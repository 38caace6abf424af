import dataclasses

import pytest
import torch
from sklearn.metrics import f1_score

from cliptune.data.items import Split
from cliptune.training import evaluate
from cliptune.training.evaluate import _named
from tests.training.support import recipe, squares


def test_numbers_equal_their_definitions(tiny_clip):
    data = squares()
    adapter = recipe(tiny_clip).adapter
    result = evaluate(adapter, data.test, batch_size=5, keep_logits=True)
    predicted, labels = result.logits.argmax(-1), data.test.labels
    right = (predicted == labels).double()
    assert result.n == len(labels) == 12
    assert result.accuracy == pytest.approx(100 * right.mean().item())
    assert result.macro_f1 == pytest.approx(100 * f1_score(labels, predicted, average="macro"))
    recalls = [100 * right[labels == c].mean().item() for c in range(3)]
    assert list(result.per_class.values()) == pytest.approx(recalls)
    assert list(result.per_class) == ["red", "green", "blue"]
    assert result.mean_per_class == pytest.approx(sum(recalls) / 3)


def test_batch_size_and_known_embeddings_change_nothing(tiny_clip):
    data = squares()
    adapter = recipe(tiny_clip).adapter
    one = evaluate(adapter, data.test, batch_size=5, keep_logits=True)
    other = evaluate(adapter, data.test, keep_logits=True)
    assert torch.allclose(one.logits, other.logits, atol=1e-4)
    images = torch.stack([torch.zeros(16)] * 12)[:, None]
    assert not torch.allclose(evaluate(adapter, data.test, embeddings=images, keep_logits=True).logits, one.logits)


def test_logits_are_those_of_the_adapter(tiny_clip):
    data = squares(side=32)
    adapter = recipe(tiny_clip, "maple").adapter
    pixels = torch.stack([torch.from_numpy(__import__("numpy").array(data.test.image(i))) for i in range(12)])
    expected = adapter.logits(pixels.permute(0, 3, 1, 2))
    assert torch.allclose(evaluate(adapter, data.test, keep_logits=True).logits, expected, atol=1e-4)


def test_mode_is_as_before(tiny_clip):
    adapter = recipe(tiny_clip).adapter
    adapter.train()
    evaluate(adapter, squares().test)
    assert adapter.training
    assert adapter.prompt.training


def test_empty_split_is_refused(tiny_clip):
    with pytest.raises(ValueError, match="the split is empty"):
        evaluate(recipe(tiny_clip).adapter, Split.empty())


def test_unknown_labels_are_refused(tiny_clip):
    data = squares()
    items = [dataclasses.replace(item, label=-1) for item in data.test.items]
    with pytest.raises(ValueError, match="unknown"):
        evaluate(recipe(tiny_clip).adapter, Split(items, data.test.source))


def test_equal_names_stay_apart():
    assert _named(("crane", "cat", "crane"), [1.0, 2.0, None]) == {"crane": 1.0, "cat": 2.0, "crane (2)": None}
