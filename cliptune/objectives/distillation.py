"""Learning the answers of a teacher."""

from __future__ import annotations

from torch import Tensor

from cliptune.objectives.self_regularised import divergence


def distillation(student: Tensor, teacher: Tensor, temperature: float, weight: float) -> Tensor:
    """weight · τ² · KL(softmax(teacher / τ) ‖ softmax(student / τ)) / (B·C); logits (B, C).

    Source: PromptKD (arXiv:2403.02781, Eq. 5), with the division by B·C of the released code: what counts for an
    image is weight / C.
    """
    return weight * temperature**2 * divergence(teacher, student, temperature) / student.shape[1]
