"""Caption side of `mini`'s pre-training: text batches, the vocabulary rows that occur, the loss."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import torch
from mini_world import NEVER_NAMED, Pictures
from torch import Tensor
from torch.nn import functional as F

from cliptune.clip.tokenizer import Tokenizer
from cliptune.data.tinyworld.captions import FACTS, Captioner, facts, matches, words
from cliptune.data.tinyworld.scene import ATTRIBUTES

_GLUE = "a an with petals centre objects things shapes one's in the of middle on left right top bottom ! ? ,"


class CaptionBatches:
    """Captions of pictures as compact ids, and which caption is true of which picture."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer()
        never = {name: values for name, values in NEVER_NAMED.items() if name in FACTS}
        self._captioner = Captioner(never)
        occurring = {self.tokenizer.sot, self.tokenizer.eot}
        for text in [_GLUE, *_strings(words()), *_strings(ATTRIBUTES)]:
            occurring.update(self.tokenizer.encode(text.replace("{}", " ")))
        self.ids = torch.tensor(sorted(occurring))  # rows of the vocabulary that are trained
        self._row = {index: row for row, index in enumerate(self.ids.tolist())}

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns: rows (k, t), cropped to the longest text, and the position (k,) of each end token."""
        rows = [
            [self._row[i] for i in (self.tokenizer.sot, *self.tokenizer.encode(text), self.tokenizer.eot)]
            for text in texts
        ]
        end = torch.tensor([len(row) - 1 for row in rows])
        padded = [row + [0] * (int(end.max()) + 1 - len(row)) for row in rows]
        return torch.tensor(padded), end

    def write(self, pictures: Pictures, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """One caption per picture.

        Returns: rows (n, t), end (n,), and (n captions, n pictures) bool, is the caption true of the picture.
        """
        rng = random.Random(seed)
        table = facts(pictures.attributes, pictures.domain)
        columns = {name: values.tolist() for name, values in table.items()}
        captions = [
            self._captioner.write({name: columns[name][i] for name in FACTS}, rng) for i in range(len(pictures.images))
        ]
        rows, end = self.encode([caption.text for caption in captions])
        return rows, end, matches(captions, table)


def contrast(image: Tensor, text: Tensor, scale: Tensor, true: Tensor) -> Tensor:
    """Symmetric contrastive loss with several right answers: targets are uniform over all true pairs.

    Args:
        image (n, D), text (n, D): embeddings; scale: scalar; true: (n texts, n images) bool, diagonal true.
    """
    logits = scale * F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    weight = true.float()
    to_image = F.cross_entropy(logits, weight / weight.sum(1, keepdim=True))
    to_text = F.cross_entropy(logits.T, weight.T / weight.T.sum(1, keepdim=True))
    return (to_image + to_text) / 2


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    else:
        for inner in value:
            yield from _strings(inner)
