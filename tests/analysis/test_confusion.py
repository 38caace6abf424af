"""Confusions, against scikit-learn."""

from __future__ import annotations

import torch
from sklearn.metrics import confusion_matrix

from cliptune.analysis.confusion import confusion

NAMES = ("cat", "dog", "eel")


def test_counts_are_scikit_learns():
    labels, predicted = torch.randint(3, (2, 50), generator=torch.Generator().manual_seed(1))
    found = confusion(labels, predicted, NAMES)
    assert found.counts.tolist() == confusion_matrix(labels, predicted, labels=[0, 1, 2]).tolist()
    assert found.accuracy == 100 * (labels == predicted).float().mean()


def test_pairs_and_sentence_name_the_most_confused():
    found = confusion(torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 0, 2]), NAMES)
    assert found.pairs() == [("cat", "dog", 2, 200 / 3), ("eel", "cat", 1, 50.0)]
    assert found.sentence() == (
        "50.0 % of 6 images are named rightly; most often 'cat' is taken for 'dog' (2 images, 67 % of that class)."
    )


def test_no_mistake_and_no_image_are_said_without_a_pair():
    assert confusion(torch.tensor([0, 1]), torch.tensor([0, 1]), NAMES).sentence() == (
        "100.0 % of 2 images are named rightly."
    )
    assert confusion(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64), NAMES).pairs() == []
