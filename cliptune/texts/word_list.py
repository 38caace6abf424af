"""Lists of words in text files, one to a line."""

from __future__ import annotations

from pathlib import Path

from cliptune.reading import content_of, shown, utf8

MOST_BYTES = 1 << 20
_REMARK = "#"


def read_word_list(path: str | Path) -> tuple[str, ...]:
    """The words or phrases in a UTF-8 text file, in its order, each once.

    Blank lines, and lines that begin with "#", say nothing; spaces around a word and several within it count as one.

    Raises: ValueError with a sentence for a file that is too large, no text, or has no word; FileNotFoundError.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {shown(str(path), 200)}. Give a text file with one word to a line.")
    try:
        lines = utf8(content_of(path, MOST_BYTES)).splitlines()
    except ValueError as error:
        raise ValueError(f"{shown(str(path), 200)}: {error}. Give a text file with one word to a line.") from error
    words = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip() and line[:1] != _REMARK))
    if not words:
        raise ValueError(f"{shown(str(path), 200)}: there is no word in it. Write one to a line.")
    return words
