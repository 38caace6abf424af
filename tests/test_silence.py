"""Every place where the rooms that read, build and train go on without a word is listed, with where it is said."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import cliptune

ROOT = Path(cliptune.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "silence.md"
ROOMS = (
    *(
        "choosing",
        "clip",
        "data",
        "doctor",
        "features",
        "heads",
        "interop",
        "methods",
        "protocols",
        "runs",
        "sweep",
        "texts",
        "training",
        "wrappers",
    ),
    "masking.py",
)
KINDS = ("continue", "except", "suppress")
ROW = re.compile(r"\| `([\w/]+\.py)` \| (?:`([\w.]+)`|\*\(module\)\*) \| (\w+)(?: ×(\d+))? \| (.+) \| (.+) \| (.+) \|")

Place = tuple[str, str, str]
"""File below the package, function with the classes and functions around it, kind."""


def silent(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """(function, kind) of every place where code goes on."""
    for node in ast.iter_child_nodes(tree):
        here = inside
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            here = f"{inside}.{node.name}".lstrip(".")
        if isinstance(node, ast.Continue):
            yield here, "continue"
        elif isinstance(node, ast.ExceptHandler) and not always_raises(node):
            yield here, "except"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            yield here, "suppress"
        yield from silent(node, here)


def always_raises(handler: ast.ExceptHandler) -> bool:
    """Whether it ends in a raise, and nothing leaves it before."""
    leaving = (ast.Return, ast.Continue, ast.Break)
    return isinstance(handler.body[-1], ast.Raise) and not any(isinstance(node, leaving) for node in ast.walk(handler))


def in_code() -> Counter[Place]:
    files = [path for room in ROOMS for path in ((ROOT / room).rglob("*.py") if "." not in room else [ROOT / room])]
    return Counter(
        (path.relative_to(ROOT).as_posix(), *place)
        for path in files
        for place in silent(ast.parse(path.read_text(encoding="utf-8")))
    )


def rows() -> list[tuple[str, ...]]:
    return [
        found.groups(default="") for found in map(ROW.fullmatch, PAGE.read_text(encoding="utf-8").splitlines()) if found
    ]


def listed() -> Counter[Place]:
    return Counter({(file, function, kind): int(n or 1) for file, function, kind, n, *_ in rows()})


def test_every_silent_place_is_listed_and_every_listed_place_is_there():
    code, page = in_code(), listed()
    unlisted, gone = code - page, page - code
    assert not unlisted, f"Say it in a note if you can, and list it in {PAGE.name}: {dict(unlisted)}"
    assert not gone, f"Take it out of {PAGE.name}: {dict(gone)}"


def test_no_place_is_listed_twice():
    places = [row[:3] for row in rows()]
    assert len(set(places)) == len(places)
    assert {kind for _, _, kind in places} == set(KINDS)


def test_all_tables_say_where_it_is_said_or_why_nowhere():
    ends = [line.split(" | ")[-2:] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(ends) > 80
    for before, now in ends:
        now = now.removesuffix(" |")
        if (before, now) == ("before", "now"):
            continue
        assert re.match(r"[TNRE–]\b|–", before), before
        assert now != "–", "what is said nowhere needs a reason"


@pytest.mark.parametrize(
    ("code", "places"),
    [
        ("for x in y:\n    if x:\n        continue\n", [("", "continue")]),
        ("def f():\n    try:\n        g()\n    except ValueError:\n        pass\n", [("f", "except")]),
        ("def f():\n    try:\n        g()\n    except ValueError as e:\n        raise OSError() from e\n", []),
        ("try:\n    g()\nexcept OSError as e:\n    if e:\n        raise\n", [("", "except")]),
        (
            "def f():\n    try:\n        g()\n    except E:\n        if h():\n            return 1\n        raise\n",
            [("f", "except")],
        ),
        (
            "class A:\n    def f(self):\n        with contextlib.suppress(OSError):\n            g()\n",
            [("A.f", "suppress")],
        ),
    ],
)
def test_the_walk_sees(code, places):
    assert list(silent(ast.parse(code))) == places
