"""The code of a Markdown page, taken apart, and what is asked of each block.

A block is run word for word, but for two epochs of training, unless a comment before it says
`<!-- parsed only: why -->`, or one further up says `<!-- commands below are parsed only: why -->`; its commands are
then only held against the program.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from markdown_it import MarkdownIt

from cliptune.cli.main import app, main
from cliptune.cli.released.commands import in_our_words
from cliptune.cli.shared.settings import resolve
from cliptune.data.catalog import data_group, list_data
from cliptune.registry import describe
from cliptune.registry.recipes import tomllib

ROOT = Path(__file__).parents[2]
EMPTY = SimpleNamespace()
_ONE, _REST = "<!-- parsed only: ", "<!-- commands below are parsed only: "
_NO_CODE = ("text", "bibtex")
_OTHERS = ("make", "pip", "python", "python3", "ray", "git", "cd", "source")  # programs that no test starts


@dataclass(frozen=True)
class Block:
    """Some code.

    Args:
        where: page and line. language: that of the fence; "bash" for what is only indented.
        run: whether it is run, or only parsed.
    """

    where: str
    language: str
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    """The code of a page in its order; directives of Sphinx and pictures of text are none."""
    found: list[Block] = []
    exempt_one = exempt_rest = False
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            exempt_one = exempt_one or token.content.startswith(_ONE)
            exempt_rest = exempt_rest or token.content.startswith(_REST)
        elif token.type in ("fence", "code_block"):
            language = (token.info.split() or [""])[0] if token.type == "fence" else "bash"
            if not language.startswith("{") and language not in _NO_CODE:
                line = f"{page.name}:{token.map[0] + 1}"
                found.append(Block(line, language, _shorter(token.content), not (exempt_one or exempt_rest)))
            exempt_one = False
        elif token.type != "inline":
            exempt_one = False
    return found


def _shorter(text: str) -> str:
    text = re.sub(r"(epochs[ =])\d+", r"\g<1>2", text)
    return text.replace('("coop", clip, data.class_names)', '("coop", clip, data.class_names, epochs=2)')


def check(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the working directory, or parse it. `names` are those of the page's Python."""
    if block.language == "python":
        _python(block, names)
    elif block.language in ("toml", "yaml", "json"):
        {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": yaml.safe_load}[block.language](block.text)
    elif block.language == "bash":
        for words in commands(block.text):
            _command(block, words)
    else:
        raise AssertionError(f"{block.where}: no test knows what to do with {block.language!r}")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without comments; a line that ends in a backslash goes on, "&&" separates."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if not words and re.match(r"[A-Z_]+=", word):
                continue  # a variable of the environment
            if word != "&&":
                words.append(word)
            elif words:
                yield words
                words = []


def _python(block: Block, names: dict[str, Any]) -> None:
    tree = ast.parse(block.text, block.where)
    if block.run:
        exec(compile(tree, block.where, "exec"), names)
        return
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), block.where, "exec"), names)
    for node in ast.walk(tree):
        path = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"cliptune(\.\w+)+", path):
            assert _exists(path), f"{block.where}: there is no {path}"


def _exists(path: str) -> bool:
    found: Any = importlib.import_module("cliptune")
    for name in path.split(".")[1:]:
        if not hasattr(found, name):
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{found.__name__}.{name}")
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _command(block: Block, words: list[str]) -> None:
    program, *rest = words
    program = Path(program).name
    if program == "cliptune":
        code = main(_shortened(rest)) if block.run else _parsed(block, rest)
        assert code == 0, f"{block.where}: {shlex.join(words)} ends with {code}"
    elif program == "python" and rest[0].endswith(".py"):
        _script(block, rest)
    elif program == "cp" and block.run:
        shutil.copy(*rest)
    else:
        assert program in _OTHERS, f"{block.where}: no test knows the program {program}"
        assert not block.run, f"{block.where}: no test starts {program}; say why before the block"
        if program == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(rest) <= set(targets), f"{block.where}: there is no target {rest}"


def _script(block: Block, words: list[str]) -> None:
    path = ROOT / words[0]
    assert path.is_file(), f"{block.where}: there is no {words[0]}"
    if block.run:
        before = sys.argv
        try:
            sys.argv = [str(path), *words[1:]]
            runpy.run_path(str(path), run_name="__main__")
        finally:
            sys.argv = before
        return
    known = "".join(script.read_text(encoding="utf-8") for script in path.parent.glob("*.py"))
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in known, f"{block.where}: {words[0]} has no {word}"


def _shortened(words: list[str]) -> list[str]:
    """The same training in two epochs, where the page does not say how many."""
    if words[0] not in ("train", "fit") or "--trainer" in words or any("epochs" in word for word in words):
        return words
    if "--method" not in words:
        return words
    method = words[words.index("--method") + 1]
    return [*words, "--epochs", "2"] if "epochs" in describe(method.split("+")[0]).options else words


def _parsed(block: Block, words: list[str]) -> int:
    """Hold a command against the program: its options, and names of methods, their options and data sets."""
    with contextlib.redirect_stderr(io.StringIO()):  # what a released command line means is told there
        ours = in_our_words(words)
    for command in ours:
        _, bound, _ = app.parse_args(command, exit_on_error=False, print_error=False)
        given = {**bound.arguments, **vars(bound.arguments.get("grid", EMPTY))}
        methods = str(given.get("methods") or given.get("method") or "").split(",")
        for method in filter(None, methods):
            assigned = getattr(given.get("run"), "set", None) or []
            resolve(method, assignments=assigned if "method" in given else ())
            assert not method.startswith("./") or (ROOT / "examples" / Path(method.split("+")[0]).name).is_file()
        for name in filter(None, str(given.get("data") or "").split(",")):
            known = name in _data_names() or "/" in name or "." in name
            assert known, f"{block.where}: there is no data set {name}"
    return 0


def _data_names() -> set[str]:
    groups = ("all11", "cross10", "shifts4", "vr11")
    assert all(data_group(group) for group in groups)
    return {*groups, "tinyworld", *(entry["name"] for entry in list_data())}
