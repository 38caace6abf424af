"""Reading text from outside: whatever is wrong with it becomes a phrase that fits into the reader's own sentence.

The modules that decode JSON and YAML fail on bad content in many ways, some of them no ValueError (nesting that is too
deep, numbers that are too long), some in many lines. Here each is a ValueError with a few printable words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MIB = 1 << 20
LARGEST = 256 * MIB
"""Bytes of a file that is read as a whole. A split file of a million pictures has less than half."""
LARGEST_YAML = MIB // 2
"""Bytes of a YAML file, which takes seconds to read; one with twenty thousand class names has less."""
DEEPEST = 64
"""Lists and objects within each other."""
MOST_VALUES = 1_000_000
"""Values that a YAML file may stand for once its aliases are written out."""
_LONGEST_NUMBER = 100
_NUMBERED = ("PUT", "BINPUT", "LONG_BINPUT")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def content_of(path: Path, most: int = LARGEST) -> bytes:
    """The bytes of a file. Raises: ValueError with a phrase if there are more than `most`; OSError."""
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"it has {size:,} bytes, and at most {most:,} are read")
    return path.read_bytes()


def utf8(content: bytes) -> str:
    """UTF-8 text, with or without a mark at its beginning. Raises: ValueError with a phrase."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error


def json_value(content: bytes | str) -> Any:
    """What a JSON document says. Raises: ValueError with a phrase."""
    text = utf8(content) if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{_lowered(error.msg)} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:
        raise ValueError("a number in it has too many digits") from error
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check_depth(value)
    if _SURROGATE.search(text):  # JSON can spell halves of characters, which no file and no screen takes
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text in it holds half a character (a lone surrogate)") from error
    return value


def yaml_value(content: bytes | str) -> Any:
    """What a YAML document says; plain values alone, and no object is made. Raises: ValueError with a phrase."""
    import yaml

    text = utf8(content) if isinstance(content, bytes) else content
    try:
        value = yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(shown(str(error), 300)) from error
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    except Exception as error:  # of values that do not fit their tag, in as many ways as there are tags
        raise ValueError(f"a value in it cannot be read ({shown(str(error) or type(error).__name__)})") from error
    _check_depth(value)
    if _written_out(value) > MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")
    return value


def check_pickle(content: bytes) -> None:
    """Raises: ValueError with a phrase if a pickle numbers what it remembers beyond its own length.

    The unpickler makes room for every number below the largest, so that a few bytes could take all memory.
    """
    import pickletools

    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _NUMBERED and isinstance(argument, int) and argument > len(content):
            raise ValueError("it numbers what it remembers beyond its own length")


def shown(text: str, most: int = 80) -> str:
    """A text from outside as part of a sentence: on one line, without what a screen would obey, cut if it is long."""
    line = "".join(_printable(character) for character in " ".join(text[: 4 * most].split()))
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first few of some names from outside, as part of a sentence."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(str(name)) for name in names[:most]) + more


def _printable(character: str) -> str:
    odd = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode("ascii") if odd else character


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _too_deep() -> str:
    return f"its lists and objects lie more than {DEEPEST} deep in each other"


def _check_depth(value: Any) -> None:
    """Raises: ValueError with a phrase for deep nesting, or a value that holds itself."""
    # Level by level, each container once: aliases of YAML may name the same one from many places.
    level = [value]
    for _ in range(DEEPEST):
        inner = (item for container in level for item in _members(container))
        level = list({id(item): item for item in inner if isinstance(item, (dict, list))}.values())
        if not level:
            return
    raise ValueError(_too_deep())


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _written_out(value: Any, known: dict[int, int] | None = None) -> int:
    """How many values there are if what is named twice counts twice."""
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = 1 + sum(_written_out(item, known) for item in _members(value))
    return known[id(value)]


def _loader() -> Any:
    """YAML's safe loader, which also takes no numbers that are longer than any that is meant.

    A number in base 60, which YAML has, costs time that grows with the square of its length.
    """
    import yaml

    # The same loader in C, where PyYAML has it: a configuration in an eighth of the time.
    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(safe):
        def construct_scalar(self, node: Any) -> Any:
            number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
            if number and isinstance(node.value, str) and len(node.value) > _LONGEST_NUMBER:
                raise yaml.constructor.ConstructorError(None, None, "a number has too many digits", node.start_mark)
            return super().construct_scalar(node)

    return Loader
