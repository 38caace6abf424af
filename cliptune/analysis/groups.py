"""Finer names for tokens of texts: which words are the class's name, which stand around it."""

from __future__ import annotations

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.towers.layout import TokenLayout

WORD_GROUPS = ("sos", "prompt", "word", "class", "stop", "eot", "pad")
"""Start, learned tokens, words of the sentence, class name, full stop, end, and what nobody sees."""
_WORD, _CLASS, _STOP = (WORD_GROUPS.index(name) for name in ("word", "class", "stop"))


def word_layout(adapter: Adapter) -> TokenLayout:
    """Groups (K, T) of the adapter's texts.  (arXiv:2312.11570, fig. 4)

    The name is where it stands last in its sentence; where its last sign and the full stop are one token, that is the
    stop. In a text without the name, such as a description, all are words.
    """
    texts = adapter.texts
    coarse = [WORD_GROUPS.index("word" if name == "class" else name) for name in texts.layout.names]
    group = torch.tensor(coarse, device=texts.ids.device)[texts.layout.group]
    names = adapter.clip.tokenize([*adapter.classes.words, "."])
    *tokens, (stop,) = (row[1:end].tolist() for row, end in zip(names.ids, names.eot.tolist(), strict=True))
    for ids, end, label, own in zip(texts.ids, texts.eot.tolist(), texts.class_of.tolist(), group, strict=True):
        if label >= 0:
            rows, joined = _last(tokens[label], ids[:end].tolist(), own)
            own[rows] = _CLASS
            own[rows.stop : rows.stop + joined] = _STOP
        if int(ids[end - 1]) == stop and own[end - 1] == _WORD:
            own[end - 1] = _STOP
    return TokenLayout(WORD_GROUPS, group)


def _last(name: list[int], ids: list[int], group: Tensor) -> tuple[slice, int]:
    """Where the name stands last among words, and how many tokens behind it are its last sign and another one."""
    for joined, part in enumerate((name, name[:-1])):
        for start in range(len(ids) - len(part), 0, -1):
            rows = slice(start, start + len(part))
            if part and ids[rows] == part and bool((group[rows] == _WORD).all()):
                return rows, joined
    return slice(0, 0), 0
