"""Which of many files holds the weights: in a folder, or in a repository of the hub."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# In the order in which they are preferred: what can hold no code first.
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
INDEX = ".index.json"
# Where sentence-transformers keeps the CLIPModel that its folder is about.
INNER_FOLDERS = ("", "0_CLIPModel/")


def chosen(names: Collection[str], files: Sequence[str] = WEIGHT_FILES, folders: Sequence[str] = ("",)) -> str | None:
    """The preferred weights among these names, or the index of weights that are split over several files.

    Whole files go first, then split ones, then variants such as `model.fp16.safetensors`. None if there are none.
    """
    for folder in folders:
        for file in (*files, *(file + INDEX for file in files)):
            if folder + file in names:
                return folder + file
        for file in files:
            stem, _, suffix = file.rpartition(".")
            variant = re.compile(rf"{re.escape(folder + stem)}\.(fp16|fp32|bf16)\.{suffix}({re.escape(INDEX)})?")
            found = [name for name in names if variant.fullmatch(name)]
            if found:
                return min(found, key=_less_precise_or_split)
    return None


def _less_precise_or_split(name: str) -> tuple[bool, int]:
    return name.endswith(INDEX), ("fp32" not in name) + ("bf16" in name)
