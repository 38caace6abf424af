"""Class texts that were encoded elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cliptune.texts.classes import ClassSet


class KnownTexts(nn.Module):
    """Unit text features of a list of classes; rows are chosen when the classes change.

    Args:
        names: N class names, in the order of the rows.
        features: (N, D) unit, kept with the learnables.
        source: gives unit features (1, C, D) of classes that are not in the list; None if there is none.
    Source: PromptKD (arXiv:2403.02781, Sec. 3.3), whose student has its teacher's texts and no text tower.
    """

    features: Tensor

    def __init__(
        self, names: tuple[str, ...], features: Tensor, source: Callable[[ClassSet], Tensor] | None = None
    ) -> None:
        super().__init__()
        if len(names) != len(features):
            raise ValueError(f"KnownTexts: {len(names)} names need as many features, got {len(features)}.")
        self.names, self.source = names, source
        self.register_buffer("features", features.detach().clone().float())

    def missing(self, classes: ClassSet) -> list[str]:
        """Names whose features are neither kept nor to be had."""
        return [] if self.source is not None else [name for name in classes.names if name not in self.names]

    def forward(self, classes: ClassSet) -> Tensor:
        """Unit features (1, C, D) of these classes."""
        if classes.names == self.names:
            return self.features[None]
        row = {name: i for i, name in reversed(list(enumerate(self.names)))}
        if all(name in row for name in classes.names):
            return self.features[[row[name] for name in classes.names]][None]
        assert self.source is not None, f"no features of {self.missing(classes)}"
        return self.source(classes).to(self.features)
