"""The knowledge term written out."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from cliptune.objectives import knowledge_guided

B, C, D = 3, 5, 16
G = torch.Generator().manual_seed(2)
TEXT, FROZEN = (F.normalize(torch.randn(1, C, D, generator=G), dim=-1) for _ in range(2))
LABELS = torch.tensor([0, 4, 2])
OUT = SimpleNamespace(
    logits=torch.randn(B, C, generator=G), text_features=TEXT, reference=SimpleNamespace(text_features=FROZEN)
)


def test_paper_form_is_the_squared_distance_and_twice_the_released_one():
    loss, parts = knowledge_guided(OUT, SimpleNamespace(labels=LABELS), 0.0, weight=8.0, form="paper")
    distance = sum(sum((TEXT[0, c, i] - FROZEN[0, c, i]) ** 2 for i in range(D)) for c in range(C)) / C
    ce = -sum(OUT.logits[b].log_softmax(0)[LABELS[b]] for b in range(B)) / B
    torch.testing.assert_close(loss, ce + 8 * distance)
    released = knowledge_guided(OUT, SimpleNamespace(labels=LABELS), 0.0, weight=16.0, form="released")[0]
    torch.testing.assert_close(released, loss)
    assert set(parts) == {"ce", "kg"}
