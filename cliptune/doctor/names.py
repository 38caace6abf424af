"""Class names as CLIP's text tower reads them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from cliptune.clip.tokenizer import Tokenizer, default_tokenizer
from cliptune.doctor.findings import ERROR, HINT, WARNING, Finding
from cliptune.noted import few

CONTEXT = 77
"""Tokens of a text, with start and end, in CLIP."""
_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"[a-z]+([-_.]?\d{3,}| (0\d+|\d{5,}))\w*|\d+[-_. ]?[a-z]?", re.IGNORECASE)
"""Letters with a number, as in n01440764 or IMG 0123 (but not Boeing 737), or a number alone."""


def on_names(names: Sequence[str], template: str, context: int = CONTEXT) -> list[Finding]:
    """What CLIP cannot read well in class names.

    Args:
        names: in words. template: with {} for the name. context: tokens of the text tower.
    """
    tokens = default_tokenizer()
    found = (
        ("long_name", ERROR, _too_long(tokens, names, template, context), _LONG.format(context)),
        ("same_name", ERROR, _same(names, lambda name: tuple(tokens.encode(name))), _SAME),
        ("like_name", HINT, _same(names, _plain), "Names that differ in an ending or a sign are nearly one text."),
        ("number_name", WARNING, [n for n in names if _CODE.fullmatch(n.strip())], _CODES),
        ("foreign_name", HINT, [n for n in names if _is_foreign(n)], _FOREIGN),
        ("split_name", HINT, _split(tokens, names), _SPLIT),
    )
    return [Finding(kind, severity, text, tuple(cases)) for kind, severity, cases, text in found if cases]


_LONG = "Names have more tokens than CLIP reads ({}). Shorten them, or give --truncate."
_SAME = "Names are one text for CLIP, which cannot tell them apart. Rename one of each."
_CODES = "Names are numbers or codes, which tell CLIP nothing. Name the classes in words."
_FOREIGN = "Names are in another script than CLIP learned from, and are spelled in bytes. English names work better."
_SPLIT = "Words fall into many pieces for CLIP, which hardly knows them. A commoner word, or one more, may help."


def _too_long(tokens: Tokenizer, names: Sequence[str], template: str, context: int) -> list[str]:
    lengths = [len(tokens.encode(template.replace("{}", name))) + 2 for name in names]
    return [f"{name[:40]!r}… has {n}" for name, n in zip(names, lengths, strict=True) if n > context]


def _same(names: Sequence[str], key: Callable[[str], object]) -> list[str]:
    """Names of the same key that are not the same text already."""
    found: dict[object, list[str]] = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return [few(map(repr, alike), 4) for alike in found.values() if len(alike) > 1]


def _plain(name: str) -> str:
    """Letters and digits alone, without the s of a plural."""
    return re.sub(r"[\W_]+", "", name.casefold()).removesuffix("s")


def _is_foreign(name: str) -> bool:
    letters = [sign for sign in name if sign.isalpha()]
    return sum(ord(sign) > 0x24F for sign in letters) * 2 > len(letters)


def _split(tokens: Tokenizer, names: Sequence[str]) -> list[str]:
    """Names with a word that falls into at least three pieces of less than three letters each on average."""
    cases = []
    for name in names:
        for word in _WORD.findall(name):
            pieces = tokens.encode(word)
            if len(pieces) >= 3 and len(word) < 3 * len(pieces) and not _is_foreign(word):
                parts = "|".join(tokens.decode([piece]).strip() for piece in pieces)
                cases.append(f"{name!r}: {parts}")
    return cases
