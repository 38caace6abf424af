"""Every method through `ClipClassifier` beside the same method from Python: the table of docs/scikit-learn.md.

python tools/sklearn_parity.py            prints the table
python tools/sklearn_parity.py --write    puts it into the page
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import cliptune
from cliptune.data import from_images
from cliptune.registry import describe, names
from cliptune.registry.plugins import parts_of
from cliptune.sklearn import ClipClassifier

PAGE = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
BEGIN, END = "<!-- parity: begin -->\n", "<!-- parity: end -->\n"
WITH_ADD_ONS = ("coop+rlp", "coop+dpc", "maple+bias", "coop+dapt", "linear_probe+rlp")
# One short training: only equality matters.
SHORT = {"epochs": 2, "batch_size": 4, "dpc_epochs": 1}
SHOTS, CLASSES = 3, 4


@dataclass(frozen=True)
class Row:
    """One method.

    Args:
        equal: the classifier gives the probabilities that the adapter from Python gives.
        loaded: so does what it is saved as and loaded from.
        note: why not.
    """

    method: str
    equal: bool
    loaded: bool
    note: str = ""

    @property
    def line(self) -> str:
        marks = ("✓" if good else "✗" for good in (self.equal, self.loaded))
        return f"| `{self.method}` | {' | '.join(marks)} | {self.note} |"


def methods() -> list[str]:
    return [*names(), *WITH_ADD_ONS]


def row(method: str) -> Row:
    """Train both ways on a few drawings and compare all probabilities, bit for bit."""
    data = cliptune.load_data("tinyworld/symbols", shots=SHOTS)
    kept = [i for i, item in enumerate(data.train) if item.label < CLASSES]
    pictures = [data.train.image(i) for i in kept]
    labels = [data.train[i].class_name for i in kept]
    options = {name: SHORT[name] for name in SHORT if any(name in describe(part).options for part in parts_of(method))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these classes have no descriptions
        try:
            expected = _from_python(method, pictures, labels, options)
        except ValueError as error:
            return Row(method, False, False, str(error))
        classifier = ClipClassifier(method, backbone="mini", options=options).fit(pictures, labels)
        with TemporaryDirectory() as folder:
            classifier.save(folder)
            loaded = ClipClassifier.load(folder)
    equal, kept_too = (np.array_equal(one.predict_proba(pictures), expected) for one in (classifier, loaded))
    return Row(method, bool(equal), bool(kept_too))


def _from_python(method: str, pictures: list[Any], labels: list[str], options: dict[str, Any]) -> np.ndarray:
    classes = sorted(set(labels))
    data = from_images(pictures, [classes.index(label) for label in labels], classes)
    recipe = cliptune.build(method, cliptune.load_clip("mini"), classes, **options)
    adapter = cliptune.fit(recipe, data, device="cpu", progress="silent").adapter
    return adapter.logits(pictures).double().softmax(dim=-1).numpy()


def table(rows: list[Row]) -> str:
    return (
        "\n".join(
            ["| method | fitted | saved and loaded | why not |", "|---|---|---|---|", *(one.line for one in rows)]
        )
        + "\n"
    )


def main() -> None:
    found = table([row(method) for method in methods()])
    print(found, end="")
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}{found}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
