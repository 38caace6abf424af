"""The three self-regularising terms, written out."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from cliptune.objectives import divergence, self_regularised

B, V, C, D = 3, 1, 5, 16
G = torch.Generator().manual_seed(2)
LABELS = SimpleNamespace(labels=torch.tensor([0, 4, 2]))


def answer() -> SimpleNamespace:
    return SimpleNamespace(
        logits=3 * torch.randn(B, C, generator=G),
        image_features=F.normalize(torch.randn(B, V, D, generator=G), dim=-1),
        text_features=F.normalize(torch.randn(1, C, D, generator=G), dim=-1),
        reference=None,
    )


def test_terms_are_zero_where_nothing_moved():
    out = answer()
    out.reference = out
    loss, parts = self_regularised(out, LABELS, 0.0, text=25.0, image=10.0, logits=1.0)
    torch.testing.assert_close(loss, parts["ce"])
    assert [float(parts[name]) for name in ("text", "image", "logits")] == [0.0, 0.0, 0.0]


def test_terms_match_their_formulas():
    out = answer()
    out.reference = frozen = answer()
    _, parts = self_regularised(out, LABELS, 0.0, text=2.0, image=3.0, logits=5.0)
    text = sum(abs(out.text_features[0, c, i] - frozen.text_features[0, c, i]) for c in range(C) for i in range(D))
    image = sum(abs(out.image_features[b, 0, i] - frozen.image_features[b, 0, i]) for b in range(B) for i in range(D))
    q, p = out.logits.softmax(-1), frozen.logits.softmax(-1)
    kl = sum(p[b, c] * (p[b, c].log() - q[b, c].log()) for b in range(B) for c in range(C))
    torch.testing.assert_close(parts["text"], 2 * text / (C * D))
    torch.testing.assert_close(parts["image"], 3 * image / (B * D))
    torch.testing.assert_close(parts["logits"], 5 * kl / (B * C))


def test_divergence_softens_both_answers():
    teacher, student = (torch.randn(B, C, generator=G) for _ in range(2))
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    torch.testing.assert_close(divergence(teacher, student, 2.0), (p * (p / q).log()).sum(-1).mean())
