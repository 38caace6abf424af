"""CVAT for images 1.1: `annotations.xml` with a tag, or shapes of one label, for each picture.

Source: CVAT's XML annotation format, version 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cliptune.data.own.naming import SPLIT_NAMES
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.noted import few
from cliptune.reading import shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ROOT = re.compile(rb"(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<annotations[\s>]", re.DOTALL)
_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")


def _recognises(file: Opened) -> bool:
    return _ROOT.match(file.head.removeprefix(b"\xef\xbb\xbf").lstrip()) is not None


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    root = _parsed(file, who)
    if root.find("track") is not None:
        raise ValueError(f"{who}: it annotates a video. Export it as CVAT for images 1.1.")
    rows: list[Row] = []
    without: list[str] = []
    shapes = False
    for i, image in enumerate(root.iter("image")):
        name = image.get("name", "").strip()
        where = f"{who}, image {shown(image.get('id') or str(i))}"
        if not name:
            raise ValueError(f"{where}: expected the name of a picture. Export the task again.")
        tags = _labels(image.iter("tag"))
        labels = tags or _labels(shape for kind in _SHAPES for shape in image.iter(kind))
        shapes |= bool(labels) and not tags
        if len(labels) > 1:
            raise ValueError(
                f"{where}: {shown(name)} has more than one label ({few(map(shown, sorted(labels)))}), and whole "
                "pictures are told apart by one each. Keep one tag for each picture."
            )
        if labels:
            rows.append(Row(where, name, labels.pop(), SPLIT_NAMES.get(image.get("subset", "").lower())))
        else:
            without.append(name)
    notes = passed_over(who, without, "since it has no tag")
    if shapes:
        notes.append(f"{who}: where there is no tag, a picture is taken as a whole for the one label of its shapes.")
    return Content(rows, notes)


def _labels(elements: Iterable[Element]) -> set[str]:
    return {label.strip() for element in elements if (label := element.get("label", "")).strip()}


def _parsed(file: Opened, who: str) -> Element:
    from xml.etree import ElementTree

    text = file.text
    if text is None:
        raise ValueError(f"{who}: expected UTF-8 text. Export the task again.")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities may stand for more than memory holds, or for other files
        raise ValueError(f"{who}: it declares a document type, which CVAT does not write. Take the declaration out.")
    try:
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"{who}: expected XML, but {shown(str(error))}. Export the task again.") from error


FORMAT = Format("CVAT's annotations", ("annotations.xml",), _recognises, _read)
