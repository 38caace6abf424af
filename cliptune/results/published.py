"""Numbers from the literature, to stand beside ours: where each was found, and how it was obtained there."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cliptune.data.published.facts import groups_of_data, published
from cliptune.results.tables import AVERAGE, Row, averages

FILE = Path(__file__).with_name("published_results.csv")
ACCURACY = {"base": "base", "new": "new", "accuracy": "test"}
"""The file's metric → our name of the evaluation; its third, "hm", is kept as printed."""

_VISUAL = ("few_shot_vr",)
_TRANSFERS = ("cross_dataset", "domain_generalization")
_PROTOCOLS = {
    "base": ("base_to_new",),
    "all": ("few_shot", "zero_shot", *_VISUAL, *_TRANSFERS),
    "cross": ("cross_dataset",),
    "domains": ("domain_generalization",),
}
_SOURCE = "ImageNet"
_TAGS = ("read", "recalled", "digest", "derived")
_NAMES = {"clip": "zeroshot", "deepvisionprompting": "vpt", "daptg": "dapt+maple", "dapts": "dapt+maple"}
_NAMES |= {"2sfs": "twostage"}


@dataclass(frozen=True)
class Number:
    """One line of the file.

    Args:
        method: as its authors write it; a re-run by others says by whom.
        backbone, protocol, dataset, shots, metric: as in the file; `dataset` begins with "AVERAGE" for means.
        value: accuracy in %, or what `metric` says.
        source: the paper or repository, with its table.
        tag: "read" in the source, "recalled" from memory, from a "digest", or "derived"; "" if not said.
    """

    method: str
    backbone: str
    protocol: str
    dataset: str
    shots: str
    metric: str
    value: float
    source: str
    tag: str


@cache
def published_numbers() -> tuple[Number, ...]:
    """All lines of the file, in its order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_number(line) for line in csv.DictReader(file))


@cache
def published_rows() -> tuple[Row, ...]:
    """Accuracies of the file as rows, one per method, backbone, protocol, data set and source.

    A row's `host` is the method as its authors write it, `trained` the protocol, and means are called "average".
    """
    found: dict[tuple[str, ...], Row] = {}
    for number in published_numbers():
        if number.metric not in (*ACCURACY, "hm"):
            continue
        key = (number.method, number.backbone, number.protocol, number.dataset, number.shots, number.source)
        if key not in found:
            mean = number.dataset.startswith("AVERAGE")
            found[key] = Row(
                AVERAGE if mean else number.dataset,
                f"{number.method} (published)",
                _shots(number.shots),
                None,
                (),
                host=number.method,
                backbone=number.backbone,
                trained=number.protocol,
                caveats=_caveats(number),
                source=number.source.split(" [")[0],
                tag=number.tag,
            )
        if number.metric == "hm":
            found[key].printed_hm = number.value
        else:
            found[key].scores[ACCURACY[number.metric]] = [number.value]
    return tuple(found.values())


def beside_published(made: Iterable[Row]) -> list[Row]:
    """Our rows, each followed by the published ones of the same method, protocol, data set, shots and backbone.

    An average is compared only if it is over the very data sets of the published one.
    """
    shown = []
    for row in made:
        shown.append(row)
        shown += [other for other in published_rows() if _comparable(row, other)]
    return shown


def recomputed_averages() -> list[tuple[Row, Row]]:
    """(printed, recomputed) for every published average whose data sets are all in the file, by `tables.averages`."""
    parts: dict[tuple[str, str, str, int | None], list[Row]] = defaultdict(list)
    printed = []
    for row in published_rows():
        if row.data == AVERAGE:
            printed.append(row)
        elif "(source)" not in row.data:  # a transfer's average is over its targets
            parts[_table(row)].append(row)
    pairs = []
    for row in printed:
        own = averages(parts[_table(row)])
        if own and len(own[0].members) == _size(row):
            own[0].printed_hm = None
            pairs.append((row, own[0]))
    return pairs


def _table(row: Row) -> tuple[str, str, str, int | None]:
    return row.host, row.backbone, row.trained, row.shots


def _size(row: Row) -> int:
    """Over how many data sets a published average is."""
    return {"cross_dataset": 10, "domain_generalization": 4, "few_shot_vr_dga_table": 12}.get(row.trained, 11)


def _number(line: dict[str, str]) -> Number:
    tag = next((tag for tag in _TAGS if f"[{tag}" in line["source"]), "")
    return Number(**{**line, "value": float(line["value"])}, tag=tag)  # type: ignore[arg-type]


def _caveats(number: Number) -> tuple[str, ...]:
    """How a published number was obtained, where that is not "last epoch, labelled shots alone"."""
    words = []
    if number.method.startswith("PromptKD"):
        words += ["epoch chosen on test images", "transductive", "external: ViT-L/14 teacher"]
    elif number.protocol in _VISUAL and "CLIP" not in number.method:
        words += ["epoch chosen on test images", "another set of 11 data sets"]
    elif number.method == "Tip-Adapter-F":
        words.append("epoch chosen on test images")
    if "inconsistent" in number.source:
        words.append("new contradicts the printed HM")
    return tuple(words)


def _comparable(ours: Row, theirs: Row) -> bool:
    asked = ours.protocol or ours.trained
    if theirs.trained not in _PROTOCOLS.get(asked, ()) or theirs.backbone != ours.backbone:
        return False
    if ours.trained_on and not ours.protocol:
        return False
    if ours.protocol and (_title(ours.trained_on) != _SOURCE or ours.trained != "all"):
        return False
    if _spelling(theirs.host) != _spelling(ours.host):
        return False
    # Without training the shots say nothing; None stands for the unlabelled images of a transductive method.
    if theirs.shots not in (0, None) and theirs.shots != ours.shots:
        return False
    if (theirs.data == AVERAGE) != (ours.data == AVERAGE):
        return False
    # What a transfer starts from is trained and scored as a few-shot run is.
    is_source = theirs.trained in _TRANSFERS and not ours.protocol
    if ours.data == AVERAGE:
        return not is_source and {_title(name) for name in ours.members} == _members(theirs)
    return theirs.data == (f"{_title(ours.data)} (source)" if is_source else _title(ours.data))


def _spelling(method: str) -> str:
    """One spelling for "CoOp+DPC (re-run)", "CoOp+DPC" and "dpc+coop", and one for "LP++" and "lp_plus_plus"."""
    plain = method.split(" (")[0].lower().replace("++", "plusplus")
    parts = ["".join(sign for sign in part if sign.isalnum()) for part in plain.split("+")]
    return "+".join(sorted(_NAMES.get(part, part) for part in parts))


def _title(name: str) -> str:
    """A data set as the file writes it; a name that is no published data set stays."""
    known = (facts.title for facts in published().values() if name.lower() in facts.spellings)
    return next(known, name)


def _members(average: Row) -> set[str]:
    """The data sets of a published average."""
    names = {"cross_dataset": "cross10", "domain_generalization": "shifts4", "few_shot_vr": "vr11"}
    return {_title(name) for name in groups_of_data()[names.get(average.trained, "all11")].members}


def _shots(text: str) -> int | None:
    """ "16" or "16 (ImageNet)"; None where unlabelled images or a teacher stand beside them."""
    number, _, place = text.partition(" ")
    return int(number) if number.isdigit() and place in ("", f"({_SOURCE})") else None
