"""Vocabularies of transformers, cleaned as open_clip cleans for them, with the places of words found by offsets."""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import ftfy
import torch
from torch import Tensor

from cliptune.clip.foreign.configuration import TOKENIZER_FILES
from cliptune.clip.foreign.libraries import library, quiet
from cliptune.clip.towers.text import first_of
from cliptune.noted import few
from cliptune.reading import content_of, json_value, shown

Hyphens = Literal["glue", "space"]
HYPHENS = ("glue", "space")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_GLUED = re.compile(rf"\w[{re.escape(string.punctuation.replace('_', ''))}]+(?=\w)")


def _whitespace(text: str) -> str:
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def canonical(text: str) -> str:
    """Lower case, underscores as spaces, all other ASCII punctuation deleted without a space in its place.

    Source: the cleaning that SigLIP's texts had (arXiv:2303.15343, in big_vision), as open_clip's "canonicalize".
    """
    return " ".join(_whitespace(text).replace("_", " ").translate(_PUNCTUATION).lower().split())


CLEANING: dict[str, Callable[[str], str]] = {
    "whitespace": _whitespace,
    "lower": lambda text: _whitespace(text).lower(),
    "canonicalize": canonical,
}


class LibraryTokenizer:
    """A tokenizer of transformers behind what `CLIP` asks of one.

    Args:
        tokenizer: a fast one, which knows where in the text each token stands.
        name: of the vocabulary, for errors.
        clean: "whitespace", "lower" or "canonicalize", in front of the tokenizer.
        without_separator: put id 0 in the place of the separator at the end (CLIPA).
        hyphens: "glue" deletes them where cleaning deletes punctuation; "space" makes them spaces first.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        clean: str = "whitespace",
        without_separator: bool = False,
        hyphens: Hyphens = "glue",
    ) -> None:
        if clean not in CLEANING:
            raise ValueError(f"Tokenizer {name}: clean must be one of {', '.join(CLEANING)}, got {shown(repr(clean))}.")
        if hyphens not in HYPHENS:
            raise ValueError(f"Tokenizer {name}: hyphens must be one of {', '.join(HYPHENS)}, got {hyphens!r}.")
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"Tokenizer {name}: it does not know where its tokens stand in a text. Give one with tokenizer.json."
            )
        self.tokenizer, self.name, self.clean, self.hyphens = tokenizer, name, clean, hyphens
        self.front, self.behind = self._frame()
        if without_separator:
            self.behind = [0 if index == tokenizer.sep_token_id else index for index in self.behind]
        self.padding = int(tokenizer.pad_token_id or 0)

    def _frame(self) -> tuple[list[int], list[int]]:
        """Ids that the tokenizer puts in front of a text and behind it."""
        word = "a"
        bare = list(self.tokenizer(word, add_special_tokens=False).input_ids)
        whole = list(self.tokenizer(word).input_ids)
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None)
        if at is None:
            raise ValueError(f"Tokenizer {self.name}: it frames {word!r} in a way that cannot be told apart from it.")
        return whole[:at], whole[at + len(bare) :]

    def _cleaned(self, text: str) -> str:
        if not isinstance(text, str):
            raise TypeError(f"Tokenizer {self.name}: a text must be a str, got {type(text).__name__} ({text!r}).")
        return CLEANING[self.clean](text.replace("-", " ") if self.hyphens == "space" else text)

    def __call__(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """K texts → ids (K, T), framed and padded.

        Raises: ValueError naming the text that does not fit, unless it is to be cut.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        cleaned = [self._cleaned(text) for text in texts]
        found = self.tokenizer(cleaned, add_special_tokens=False).input_ids if cleaned else []
        room = context_length - len(self.front) - len(self.behind)
        if truncate:
            found = [ids[:room] for ids in found]
        for text, ids in zip(texts, found, strict=True):
            if len(ids) > room:
                raise ValueError(
                    f"Tokenizer {self.name}: a text may have at most {context_length} tokens with those that frame "
                    f"it, but {shown(text, 80)!r} has {context_length - room + len(ids)}. Shorten it."
                )
        return self.framed(found, context_length)

    def framed(self, pieces: Sequence[Sequence[int]], context_length: int) -> Tensor:
        """Tokens of K texts → ids (K, T) with what frames and pads them.

        Raises: ValueError for a text that is too long.
        """
        table = torch.full((len(pieces), context_length), self.padding, dtype=torch.int64)
        for row, ids in enumerate(pieces):
            whole = [*self.front, *ids, *self.behind]
            if len(whole) > context_length:
                raise ValueError(
                    f"Tokenizer {self.name}: text {row} with its learned tokens has {len(whole)} tokens, and the tower "
                    f"takes {context_length}. Use fewer learned tokens, or shorter names."
                )
            table[row, : len(whole)] = torch.tensor(whole)
        return table

    def marks(self, ids: Tensor) -> dict[str, Any]:
        """`ends` and `head` of a `TokenBatch` with these ids (K, T)."""
        head = len(self.front)
        end = self.behind[0] if self.behind else self.padding
        words = ids[:, head:]
        ends = torch.where((words == end).any(dim=1), head + first_of(words, end), ids.shape[1] - 1)
        return {"ends": ends, "head": head}

    def pieces(self, text: str) -> tuple[str, list[int], list[int]]:
        """The cleaned text, the ids of its tokens, and the character at which each begins."""
        cleaned = self._cleaned(text)
        found = self.tokenizer(cleaned, add_special_tokens=False, return_offsets_mapping=True)
        return cleaned, list(found.input_ids), [start for start, _ in found.offset_mapping]

    def decode(self, ids: Sequence[int]) -> str:
        """Tokens as text. One alone that begins a word has a space behind it, as ends of words have in CLIP's
        vocabulary: those of sentencepiece and BERT mark where a word begins, or goes on.
        """
        if len(ids) != 1:
            text: str = self.tokenizer.decode(list(ids))
            return text
        piece = str(self.tokenizer.convert_ids_to_tokens(list(ids))[0])
        if piece in self.tokenizer.all_special_tokens:
            return piece
        if piece.startswith("\u2581"):
            return f"{piece[1:]} "
        goes_on = piece.startswith("##") or not self._marks_what_goes_on
        return piece.removeprefix("##") if goes_on else f"{piece} "

    @cached_property
    def _marks_what_goes_on(self) -> bool:
        return any(piece.startswith("##") for piece in self.tokenizer.get_vocab())

    def notes(self, names: Sequence[str]) -> list[str]:
        """A sentence where cleaning joins words of class names that punctuation kept apart."""
        if self.clean != "canonicalize":
            return []
        joined = [name for name in names if _GLUED.search(name.replace("-", " ") if self.hyphens == "space" else name)]
        if not joined:
            return []
        read = few([f"{name!r} is read as {self._cleaned(name)!r}" for name in dict.fromkeys(joined)], 3)
        hint = "" if self.hyphens == "space" else ' Hyphens are read as spaces with --hyphens space (hyphens="space").'
        return [f"Tokenizer {self.name}: punctuation is deleted, as in the training of these weights: {read}.{hint}"]


def library_tokenizer(
    text: Mapping[str, Any], folder: Path | None, who: str, offline: bool, hyphens: Hyphens = "glue"
) -> LibraryTokenizer:
    """The tokenizer that a `text_cfg` declares: from the files beside the weights, else by its name.

    Args:
        text: `text_cfg` with `hf_tokenizer_name` or `hf_model_name`. folder: of the weights.
        who: begins the errors. offline: take the hub's local cache alone.
    Raises: ImportError with a sentence without transformers; FileNotFoundError if there is no such tokenizer here.
    """
    name = str(text.get("hf_tokenizer_name") or text.get("hf_model_name"))
    if text.get("tokenizer_mode"):
        raise ValueError(f"{who}: the way of tokenizing {shown(repr(text['tokenizer_mode']))} cannot be followed here.")
    options = dict(text.get("tokenizer_kwargs") or {})
    clean, strip = options.pop("clean", "whitespace"), bool(options.pop("strip_sep_token", False))
    if options:
        raise ValueError(f"{who}: tokenizer_kwargs holds {few(sorted(options), 3)}, which cannot be followed here.")
    transformers = library("transformers", f"{who}: its tokenizer {name}")
    here = folder is not None and any((folder / file).exists() for file in TOKENIZER_FILES)
    source, known = (str(folder), True) if here else (name, Path(name).is_dir() or offline)
    # SigLIP's own class in transformers is a slow one, which takes sentencepiece's file alone.
    slow = folder is not None and class_of(folder) == "SiglipTokenizer" and (folder / "tokenizer.json").is_file()
    opener = transformers.PreTrainedTokenizerFast if slow else transformers.AutoTokenizer
    try:
        with quiet(transformers):
            found = opener.from_pretrained(source, local_files_only=known)
    except Exception as error:  # of many kinds, by what is missing
        where = f"in {folder}" if here else "in the hub's local cache" if known else "on the hub"
        raise FileNotFoundError(
            f"{who}: its tokenizer {name} cannot be opened {where} ({shown(_first_line(error), 200)}). Put its "
            f"files ({', '.join(TOKENIZER_FILES[:3])}, with tokenizer_config.json) beside the weights, or load it once "
            "with the network."
        ) from error
    return LibraryTokenizer(found, name, str(clean), strip, hyphens)


def class_of(folder: Path) -> str | None:
    """The class of tokenizer that its configuration names, if any. Raises: ValueError for a broken file."""
    path = folder / "tokenizer_config.json"
    try:
        found = json_value(content_of(path)) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again.") from error
    name = found.get("tokenizer_class") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
