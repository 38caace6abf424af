"""CLIP's byte-pair tokenizer: text to ids of the OpenAI vocabulary, and back.  (arXiv:2103.00020, Sec. 2.4)

Text is repaired (ftfy), HTML entities are resolved, white space is collapsed and letters are lowered. A
pattern cuts it into words, numbers (digit by digit) and runs of other signs; each piece is spelled in UTF-8
bytes, the last of which carries an end-of-word mark, and neighbours are merged in the order of the list.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import ftfy
import regex
import torch
from torch import Tensor

VOCABULARY = Path(__file__).parent / "vocab" / "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 49408
MERGES = VOCAB_SIZE - 2 * 256 - 2  # each byte twice (within and at the end of a word), two special tokens
END_OF_WORD = "</w>"
_REMEMBERED_WORDS = 1 << 16

_PIECES = regex.compile(
    r"<\|(?:start|end)oftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)
_SPACES = regex.compile(r"\s+")


class Tokenizer:
    """Text to token ids of OpenAI's CLIP vocabulary (49,408 entries).

    Attributes:
        sot, eot: ids 49406 and 49407 around every text; the text tower finds `eot` as the largest id.
        vocab_size: 49408, rows of the token embedding that goes with it.
    """

    def __init__(self) -> None:
        letters = _byte_letters()
        merges = _read_merges()
        symbols = [*letters.values(), *(letter + END_OF_WORD for letter in letters.values())]
        symbols += [first + second for first, second in merges]
        symbols += [START, END]
        self.vocab_size = len(symbols)
        self.sot, self.eot = self.vocab_size - 2, self.vocab_size - 1
        self._id_of = {symbol: index for index, symbol in enumerate(symbols)}
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        self._letters = letters
        self._bytes = {letter: byte for byte, letter in letters.items()}
        self._symbols = symbols
        self._words: dict[str, list[int]] = {START: [self.sot], END: [self.eot]}

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without start, end and padding. An empty text gives an empty list."""
        if not isinstance(text, str):
            raise TypeError(
                f"Tokenizer: a text must be a str, got {type(text).__name__} ({text!r}). "
                "Pass one string or a list of strings."
            )
        return [index for piece in _PIECES.findall(_clean(text)) for index in self._encode_piece(piece)]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Text of `ids`: lower case, a space after every word, special tokens by name. Padding (id 0) is `!`.

        Raises: ValueError for an id outside 0 … 49407.
        """
        spelled = bytearray()
        for index in ids.tolist() if isinstance(ids, Tensor) else ids:
            if not 0 <= index < self.vocab_size:
                raise ValueError(
                    f"Tokenizer: ids must lie between 0 and {self.vocab_size - 1}, got {index}. "
                    "Decode only ids made with CLIP's vocabulary."
                )
            symbol = self._symbols[index]
            ends_word = symbol.endswith(END_OF_WORD)
            spelled += bytes(self._bytes[letter] for letter in symbol.removesuffix(END_OF_WORD))
            spelled += b" " if ends_word else b""
        return spelled.decode("utf-8", errors="replace")

    def __call__(self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
        """Start, ids, end, then zeros.

        Args:
            texts: K texts, or one.
            context_length: T ≥ 2, positions of the text tower.
            truncate: cut a text that is too long and put the end token last, instead of raising.
        Returns: (K, T) int64.
        Raises: ValueError naming the text that does not fit; TypeError if a text is not a string.
        """
        if context_length < 2:
            raise ValueError(
                f"Tokenizer: context_length must be at least 2 (start and end token), got {context_length}."
            )
        texts = [texts] if isinstance(texts, str) else list(texts)
        table = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            ids = [self.sot, *self.encode(text), self.eot]
            if len(ids) > context_length:
                if not truncate:
                    shown = text if len(text) <= 80 else text[:77] + "..."
                    raise ValueError(
                        f"Tokenizer: a text may have at most {context_length} tokens with start and end, "
                        f"but text {row}, {shown!r}, has {len(ids)}. Shorten it or pass truncate=True."
                    )
                ids = [*ids[: context_length - 1], self.eot]
            table[row, : len(ids)] = torch.tensor(ids)
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        # It never changes after construction, so copies and other processes use the shared one.
        return default_tokenizer, ()

    def _encode_piece(self, piece: str) -> list[int]:
        known = self._words.get(piece)
        if known is None:
            if len(self._words) >= _REMEMBERED_WORDS:
                self._words = {START: [self.sot], END: [self.eot]}
            known = self._words[piece] = [self._id_of[symbol] for symbol in self._merge(piece)]
        return known

    def _merge(self, piece: str) -> list[str]:
        word = [self._letters[byte] for byte in piece.encode("utf-8")]
        word[-1] += END_OF_WORD
        unranked = len(self._rank)
        while len(word) > 1:
            best = min(pairwise(word), key=lambda pair: self._rank.get(pair, unranked))
            if best not in self._rank:
                break
            word = _joined(word, best)
        return word


@lru_cache(maxsize=1)
def default_tokenizer() -> Tokenizer:
    """The tokenizer that all CLIPs share, read at the first call."""
    return Tokenizer()


def _clean(text: str) -> str:
    # Entities are resolved twice because captions from the web are often escaped twice.
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return str(_SPACES.sub(" ", text)).strip().lower()


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    """`word` with every occurrence of `pair` joined, from left to right, without overlap."""
    joined: list[str] = []
    position = 0
    while position < len(word):
        if (*word[position : position + 2],) == pair:
            joined.append(pair[0] + pair[1])
            position += 2
        else:
            joined.append(word[position])
            position += 1
    return joined


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in the merge list, in the order of the vocabulary.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, get U+0100 and on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _read_merges() -> list[tuple[str, str]]:
    # The file goes on after the merges that CLIP uses; its first line is a header.
    with gzip.open(VOCABULARY, "rt", encoding="utf-8") as lines:
        pairs = [line.split() for line in islice(lines, 1, 1 + MERGES)]
    if len(pairs) != MERGES or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"Tokenizer: {VOCABULARY} must hold {MERGES} merges of two symbols, but it is damaged. "
            "Install cliptune again."
        )
    return [(first, second) for first, second in pairs]
