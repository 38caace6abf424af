"""`cliptune data`: what data sets there are, and how a folder would be split."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from cyclopts import App

from cliptune.cli.opening import data_source, describe_data, notes_said_once, open_data
from cliptune.cli.show import say, table

app = App(
    name="data",
    help="What data sets there are, and splits of your own.",
    help_format="plaintext",
    sort_key=99,
)


def list_() -> None:
    """List the data sets that can be asked for by name."""
    from cliptune.data import list_data

    table(["name", "what it is"], [[row["name"], row["summary"]] for row in list_data()], left=2)
    say("Besides names: a folder of class folders, or a .csv, .jsonl or .json list.")


def split(
    folder: str,
    /,
    *,
    shots: int | None = None,
    seed: int = 1,
    split_seed: int | None = None,
    out: str | None = None,
) -> None:
    """Write the split of your own images to a file, in the field's JSON format, to keep or to share.

    Parameters
    ----------
    folder
        As in `cliptune fit`.
    shots
        Keep only so many training images per class, and at most 4 for validation: the field's picks for the seed.
    seed
        Of these picks.
    split_seed
        Of the split itself, where the images are not split yet (1).
    out
        The file; FOLDER/split_NAME.json if left out.
    """
    from cliptune.data import make_split
    from cliptune.files import atomic_write_text

    dataset = open_data(data_source(folder, None, split_seed=split_seed))
    if dataset.root is None:
        raise ValueError(f"{dataset.name} is made by the library and has no files that a split file could list.")
    with notes_said_once():
        chosen = dataset if shots is None else dataset.few_shot(shots, seed)
    describe_data(chosen)
    content = json.dumps(make_split(chosen), ensure_ascii=False, indent=1) + "\n"
    root = dataset.root
    picked = "" if shots is None else f"_{shots}shots_seed{seed}"
    target = Path(out).expanduser() if out is not None else root / f"split_{dataset.name}{picked}.json"
    if target.exists() and target.read_text(encoding="utf-8", errors="replace") != content:
        raise ValueError(f"{target} holds something else already. Give another file: --out FILE.")
    atomic_write_text(target, content)
    beside = "" if target.parent.resolve() == root.resolve() else f" --root {shlex.quote(str(root))}"
    say(
        f"Written to {target}; its paths are relative to {root}.",
        "Train on it:",
        f"  cliptune fit {shlex.quote(str(target))}{beside} --method coop --out out/",
    )
