"""Our docstrings and arXiv ids, as Sphinx wants them.

The docstrings are plain text with sections such as "Args:" and "Raises: ValueError if …", several arguments in a line
where they are short, and single backticks around code; Sphinx's autodoc reads reStructuredText.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_SECTION = re.compile(r"((?:Args|Attributes|Columns|Letters|Returns|Raises|Source)(?: \([^)]*\))?):(?: (.*))?$")
_LISTS = ("Args", "Attributes", "Columns", "Letters")
_NAMES = r"[\w*\0]+(?:, [\w*\0]+)*"  # \0 stands for the backslash before a star, or a last underscore
_ARXIV = re.compile(r"(?:arXiv:)?\b(\d{4}\.\d{5})\b")


def to_rst(doc: str, names: Iterable[str] = ()) -> str:
    """A docstring as reStructuredText.

    Args:
        doc: without the indent of its code. names: of arguments and fields, at which a line of several is taken apart.
    """
    blocks: list[str] = []
    doc = re.sub(r"(?<=[.)]) ((?:Raises|Returns)(?: \([^)]*\))?): ", r"\n\1: ", doc)  # at the end of a single line
    lines = _escaped(doc).splitlines()
    while lines:
        line = lines.pop(0)
        section = _SECTION.match(line)
        if not section:
            if line.startswith("- ") and blocks and blocks[-1].strip() and not blocks[-1].startswith(("- ", "  ")):
                blocks.append("")
            blocks.append(line)
            continue
        title, rest = section[1], section[2] or ""
        inside: list[str] = []
        while lines and (lines[0].startswith(" ") or (not lines[0] and lines[1:] and lines[1].startswith("    "))):
            inside.append(lines.pop(0))
        blocks += ["", f":{title}:", *_body(title, rest, inside, set(names)), ""]
    return "\n".join(blocks)


def _body(title: str, rest: str, inside: list[str], names: set[str]) -> Iterator[str]:
    """The lines of a section: a list of arguments, or a paragraph."""
    if rest or not title.startswith(_LISTS):
        yield "    " + " ".join([rest, *(line.strip() for line in inside)]).strip()
        return
    entries: list[str] = []
    for line in inside:
        if entries and (line.startswith("     ") or not line):
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    for entry in entries:
        for name, text in _apart(entry, names):
            yield f"    - **{name}**: {text}" if name else f"    - {text}"


def _apart(entry: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of "a: … . b: …", which is two arguments where `b` is one; what has no name stays a sentence."""
    starts = [
        found
        for found in re.finditer(rf"(?:^|(?<=[.;]) )({_NAMES}): ", entry.replace("\\", "\0"))
        if found.start() == 0 or set(found[1].split(", ")) <= names
    ]
    if not starts:
        yield "", entry
        return
    for found, after in zip(starts, [*starts[1:], None], strict=True):
        yield found[1].replace("\0", "\\"), entry[found.end() : after.start() if after else None].rstrip("; ")


def _escaped(doc: str) -> str:
    """Single backticks doubled; everything else is text, stars and bars included."""
    parts = re.split(r"(`[^`]+`)", doc)
    plain = lambda text: re.sub(r"([\\*|])|(?<=\w)(_)(?!\w)", r"\\\g<0>", text)
    return "".join(f"`{part}`" if part.startswith("`") else plain(part) for part in parts)


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    try:
        names = set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        names = set()
    lines[:] = [*to_rst("\n".join(lines), names).splitlines(), ""]


def _sign(app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str) -> Any:
    """No signature where a class has none of its own; defaults that are no Python, such as factories, as three dots."""
    if what == "class" and re.sub(r": (?:typing\.|~typing\.)?Any", "", signature or "") == "(*args, **kwargs)":
        return "", None
    return (re.sub(r"<[^<>]+>", "...", signature), returns) if signature else None


class ArXivLinks(SphinxTransform):
    """Every arXiv id in running text becomes a link."""

    default_priority = 750

    def apply(self, **_: Any) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if not _ARXIV.search(text) or _within(text, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw):
                continue
            parts, at = [], 0
            for found in _ARXIV.finditer(text):
                address = f"https://arxiv.org/abs/{found[1]}"
                parts += [nodes.Text(text[at : found.start()]), nodes.reference("", found[0], refuri=address)]
                at = found.end()
            text.parent.replace(text, [*parts, nodes.Text(text[at:])])


def _within(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    return node.parent is not None and (isinstance(node.parent, kinds) or _within(node.parent, *kinds))


class MethodModules(Directive):
    """Every method and add-on with its options, one after another."""

    def run(self) -> list[nodes.Node]:
        from cliptune.registry import names
        from cliptune.registry.building import add_ons, find

        source = StringList()
        for name in (*names(), *add_ons()):
            title = name if name in names() else f"+{name}"
            module = find(name).__name__
            for line in (f".. rubric:: {title}", "", f".. automodule:: {module}", "   :members: Config", ""):
                source.append(line, "methods")
        inside = nodes.Element()
        self.state.nested_parse(source, self.content_offset, inside)
        return inside.children


class CommandHelp(Directive):
    """What `--help` says of every command, word for word."""

    def run(self) -> list[nodes.Node]:
        from rich.console import Console

        from cliptune.cli import main

        shown: list[nodes.Node] = []
        for words in _commands(main.app):
            answer = io.StringIO()
            main.app.help_print([*words], console=Console(width=100, color_system=None, file=answer))
            text = answer.getvalue().strip()
            shown += [nodes.rubric("", f"cliptune {' '.join(words)}"), nodes.literal_block(text, text, language="text")]
        return shown


def _commands(app: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in app:
        if not name.startswith("-"):
            words = (*above, name)
            yield words
            yield from _commands(app[name], words)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _sign)
    app.add_transform(ArXivLinks)
    app.add_directive("method-modules", MethodModules)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
