"""The projector at the features port."""

from __future__ import annotations

import torch
from torch import nn

from cliptune.prompts.projector import Projector

B, V, D, WIDE = 3, 2, 16, 20


def trained_projector() -> Projector:
    torch.manual_seed(0)
    projector = Projector(D, WIDE)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.normal_()
    for _ in range(3):
        projector.project(torch.randn(B, V, D))
    return projector.eval()


def test_folding_the_batch_norm_changes_nothing_in_evaluation():
    projector, embedding = trained_projector(), torch.randn(B, V, D)
    folded = projector.folded()
    assert not any(isinstance(module, nn.BatchNorm1d) for module in folded)
    torch.testing.assert_close(folded(embedding), projector.project(embedding), rtol=1e-4, atol=1e-4)


def test_training_takes_the_statistics_of_all_views_of_the_batch():
    projector, embedding = trained_projector().train(), torch.randn(B, V, D)
    first, norm, _, last = projector.map
    hidden = first(embedding.flatten(0, 1))
    centred = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt()
    expected = last((centred * norm.weight + norm.bias).clamp_min(0)).view(B, V, WIDE)
    torch.testing.assert_close(projector.project(embedding), expected, rtol=1e-4, atol=1e-4)
