"""Where to get a published data set, and what goes where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cliptune.data.published.facts import Source, facts


@dataclass(frozen=True)
class Step:
    """One thing to fetch.

    Args:
        what: archive or file.
        origin: address; as published, not tried from here.
        target: where it goes, with `<class>` for the folders of an archive.
        present: whether it is there already; None without a root.
        optional: why one can do without it; None for what is needed.
    """

    what: str
    origin: str
    target: str
    present: bool | None
    optional: str | None


def plan_published(name: str, root: str | Path | None = None) -> list[Step]:
    """The steps that make a data set complete below `root`.

    Raises: ValueError for an unknown name.
    """
    known = facts(name)
    sources = list(known.sources)
    if known.split_file is not None:
        sources.append(Source(f"{known.split_file}, the field's split", str(known.split_from), known.split_file))
    top = None if root is None else Path(root).expanduser()
    folder = known.places[0].folder
    steps = []
    for source in sources:
        # The part before a place-holder or a second target tells whether it is there.
        sign = re.split("[<,{]", source.target)[0].split(" ")[0]
        below = folder if top is None else str(top / folder)
        present = None if top is None else (top / folder / sign).exists()
        steps.append(Step(source.what, source.origin, f"{below}/{source.target}", present, source.optional))
    return steps
