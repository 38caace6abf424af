"""Every row of a table against one method: what differs, and whether that is more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliptune.data.metrics import harmonic_mean
from cliptune.results.statistics import (
    Interval,
    McNemar,
    PairedT,
    SignedRank,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_t,
    signed_rank,
)
from cliptune.results.tables import AVERAGE, Row
from cliptune.runs import Predictions, read_predictions

ALPHA = 0.05
"""Corrected p-values below it tell two methods apart."""
MEAN_OF_HMS = "mean of HMs"
"""The measure beside the evaluations: the harmonic mean of base and new, seed by seed."""
# What two rows must share besides data, shots and backbone for their images to be the same ones.
_OF_THE_IMAGES = ("split", "target split", "weights")


@dataclass(frozen=True)
class Comparison:
    """One row less the reference's row, on the same data, shots, backbone and seeds, in % points.

    Args:
        row, reference: what is compared; of equal data, or both averages of equal data sets.
        measure: the evaluation, or `MEAN_OF_HMS`.
        seeds: that both have.
        values, reference_values: for each of these seeds; of an average the mean over its data sets.
        over_seeds: None for fewer than two seeds.
        over_images: the bootstrap's; None where not every run kept its answers, or it is not an accuracy.
        answers: of all seeds together, the reference first; None as for `over_images`, and for an average.
        over_data: of an average.
        adjusted: "seeds", "answers" and "data" → p-value, corrected over all comparisons of the table (Holm).
    """

    row: Row
    reference: Row
    measure: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    reference_values: tuple[float, ...]
    over_seeds: PairedT | None = None
    over_images: Interval | None = None
    answers: McNemar | None = None
    over_data: SignedRank | None = None
    adjusted: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def differences(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.reference_values, self.values, strict=True))

    @property
    def difference(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def told_apart(self) -> int:
        """+1 or −1 where the row lies above or below the reference by more than chance, else 0.

        It takes the corrected test over seeds; where answers are known, a bootstrap interval on the same side of zero;
        for an average also the corrected test over data sets, with most of them on that side. McNemar's test decides
        nothing, since the answers that several seeds give to one image are not independent.
        """
        p = self.adjusted.get("seeds")
        if self.over_seeds is None or p is None or p >= ALPHA:
            return 0
        sign = self.over_seeds.interval.sign
        if self.over_images is not None and self.over_images.sign != sign:
            return 0
        if self.over_data is not None:
            p, most = self.adjusted.get("data"), self.over_data.wins - self.over_data.losses
            if p is None or p >= ALPHA or most * sign <= 0:
                return 0
        return sign


class Unpaired(ValueError):
    """Two rows that cannot be compared."""


def compare(made: Sequence[Row], method: str, remarks: list[str]) -> list[Comparison]:
    """Compare every row, measure by measure, with a method's row on the same data, shots, backbone and seeds.

    Args:
        made: rows of a table, from `rows`.
        method: the host, as in "coop", or a row's whole label, as in "coop (n_ctx=4)".
        remarks: takes a sentence for whatever could not be compared, or not in every respect.
    Raises: ValueError if there is no such row, its name fits several, or nothing at all can be compared.
    """
    own = [row for row in made if not row.source]
    if not any(method in (row.method, row.host) for row in own):
        known = ", ".join(dict.fromkeys(row.host for row in own))
        raise ValueError(f"--against {method}: there is no row of that method. Give one of {known}.")
    answers = _Answers(remarks)
    found: list[Comparison] = []
    for row in own:
        if _is_reference(row, own, method):
            continue
        try:
            reference = _reference(row, own, method)
            found += _compared(row, reference, answers, remarks)
        except Unpaired as error:
            remarks.append(str(error))
    if not found:
        raise ValueError(remarks[0] if remarks else f"--against {method}: there is no other row to compare with it.")
    return corrected(found)


def compare_pairs(pairs: Sequence[tuple[Row, Row]], remarks: list[str]) -> list[Comparison]:
    """Compare chosen pairs of rows, measure by measure, where the questions do not all ask about one method.

    Args:
        pairs: (row, its reference) each, on the same data, shots, backbone and split.
        remarks: takes a sentence for whatever could not be compared in every respect.
    Returns: in the order of the pairs, corrected over all of them.
    Raises: Unpaired, a ValueError, for a pair that cannot be compared.
    """
    answers = _Answers(remarks)
    found: list[Comparison] = []
    for row, reference in pairs:
        if (_place(row), _images(row)) != (_place(reference), _images(reference)):
            raise Unpaired(
                f"{row.method} on {row.place} and {reference.method} on {reference.place}: expected two rows with the "
                "same data, shots, backbone and split, since other images cannot be paired. Make both on one split."
            )
        found += _compared(row, reference, answers, remarks)
    return corrected(found)


def _is_reference(row: Row, made: Sequence[Row], method: str) -> bool:
    exact = any(other.method == method for other in made if _place(other) == _place(row))
    return row.method == method if exact else row.host == method


def _place(row: Row) -> tuple[Any, ...]:
    """What a row and its reference have in common."""
    return row.data, row.trained_on, row.protocol, row.shots, row.share, row.trained, row.backbone, row.members


def _reference(row: Row, made: Sequence[Row], method: str) -> Row:
    """Raises: Unpaired if there is none on the same images; ValueError if there are several."""
    who = f"{row.method} on {row.place}"
    there = [other for other in made if _place(other) == _place(row) and _is_reference(other, made, method)]
    if not there:
        raise Unpaired(f"{who}: there is no row of {method} with the same data, shots and backbone to compare it with.")
    same = [other for other in there if _images(other) == _images(row)]
    if not same:
        raise Unpaired(
            f"{who}: its runs and those of {method} are on different splits (or weights), so they answered different "
            "images and cannot be paired. Make both on one split."
        )
    if len(same) > 1:
        names = ", ".join(repr(other.method) for other in same)
        raise ValueError(f"--against {method}: more than one row on {row.place} fits: {names}. Give one of these.")
    return same[0]


def _images(row: Row) -> list[Any]:
    if row.parts:
        return [_images(part) for part in row.parts]
    return [row.settings.get(name) for name in _OF_THE_IMAGES]


def _compared(row: Row, reference: Row, answers: _Answers, remarks: list[str]) -> list[Comparison]:
    measures = [name for name in row.scores if row.mean(name) is not None and reference.mean(name) is not None]
    if row.harmonic_mean is not None and reference.harmonic_mean is not None:
        measures.append(MEAN_OF_HMS)
    if not measures:
        raise Unpaired(f"{row.method} on {row.place}: no evaluation is finished for it and for {reference.method}.")
    seeds = _seeds(row) & _seeds(reference)
    if not seeds:
        raise Unpaired(
            f"{row.method} on {row.place}: it has no seed in common with {reference.method}, so nothing can be paired. "
            "Run both with the same seeds."
        )
    if len(seeds) < 2:
        remarks.append(
            f"{row.method} on {row.place}: it has one seed in common with {reference.method}, and no interval over "
            "seeds can be made of one. Run both with more seeds."
        )
    return [_one(row, reference, name, tuple(sorted(seeds)), answers) for name in measures]


def _seeds(row: Row) -> set[int]:
    return set.intersection(*(_seeds(part) for part in row.parts)) if row.parts else set(row.seeds)


def _one(row: Row, reference: Row, measure: str, seeds: tuple[int, ...], answers: _Answers) -> Comparison:
    values, before = (_values(one, measure, seeds) for one in (row, reference))
    made = Comparison(row, reference, measure, seeds, values, before)
    pairs = list(zip(row.parts or (row,), reference.parts or (reference,), strict=True))
    knows_images = row.metric == "accuracy" and measure != MEAN_OF_HMS
    right = [answers.both(*pair, measure, seeds) for pair in pairs] if knows_images else [None]
    whole = [one for one in right if one is not None]
    if len(whole) == len(pairs):
        made = replace(made, over_images=paired_bootstrap([100.0 * (b - a).mean(axis=0) for a, b in whole]))
    if not row.parts and whole:
        first, second = whole[0]
        made = replace(made, answers=mcnemar(first.ravel() > 0, second.ravel() > 0))
    if row.parts:
        by_data = [
            statistics.fmean(_values(b, measure, seeds)) - statistics.fmean(_values(a, measure, seeds))
            for b, a in pairs
        ]
        made = replace(made, over_data=signed_rank(by_data))
    return replace(made, over_seeds=paired_t(made.differences)) if len(seeds) > 1 else made


def _values(row: Row, measure: str, seeds: Sequence[int]) -> tuple[float, ...]:
    """For each seed; of an average the mean over its data sets."""
    if row.data == AVERAGE:
        by_data = [_values(part, measure, seeds) for part in row.parts]
        return tuple(statistics.fmean(values) for values in zip(*by_data, strict=True))
    if measure == MEAN_OF_HMS:
        halves = (_values(row, half, seeds) for half in ("base", "new"))
        return tuple(harmonic_mean(base, new) for base, new in zip(*halves, strict=True))
    at = dict(zip(row.seeds, row.scores[measure], strict=True))
    return tuple(at[seed] for seed in seeds)


class _Answers:
    """What runs answered, each file read once.

    Args:
        remarks: takes a sentence for files that cannot be read, and for runs that kept none, once for each row.
    """

    def __init__(self, remarks: list[str]):
        self._remarks = remarks
        self._known: dict[tuple[Path, str], Predictions | None] = {}

    def both(
        self, row: Row, reference: Row, measure: str, seeds: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Right (1) or wrong (0), of the reference and of the row, each (seeds, N); None if not all are known.

        Raises: Unpaired if they are about different images or classes.
        """
        name = f"{row.data}/{measure}" if row.trained_on else measure
        first, second = (
            [self._read(dict(zip(one.seeds, one.folders, strict=True))[seed], name) for seed in seeds]
            for one in (reference, row)
        )
        whole = [one for one in (*first, *second) if one is not None]
        if len(whole) < 2 * len(seeds):
            self._say(
                f"{row.method} on {row.place}: not all of its runs and those of {reference.method} kept their answers "
                f"to the images of {name!r}, so there is no interval over images. `cliptune eval RUN` scores anew."
            )
            return None
        about = {(one.split_sha256, one.images_sha256, one.classes_sha256) for one in whole}
        if len(about) > 1:
            raise Unpaired(
                f"{row.method} on {row.place}: its answers and those of {reference.method} under {name!r} are about "
                "different images or classes, or their order differs, so they cannot be paired. Make both on one split."
            )
        a, b = (np.stack([one.right.numpy() for one in some if one is not None]) for some in (first, second))
        return a.astype(np.float64), b.astype(np.float64)

    def _read(self, folder: Path, name: str) -> Predictions | None:
        if (folder, name) not in self._known:
            try:
                self._known[folder, name] = read_predictions(folder, name)
            except (ValueError, OSError) as error:
                self._known[folder, name] = None
                self._say(str(error))
        return self._known[folder, name]

    def _say(self, sentence: str) -> None:
        if sentence not in self._remarks:
            self._remarks.append(sentence)


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with Holm's correction of each kind of test over all of them."""
    tests = {"seeds": "over_seeds", "answers": "answers", "data": "over_data"}
    columns = {
        kind: holm([None if getattr(one, test) is None else getattr(one, test).p for one in found])
        for kind, test in tests.items()
    }
    return [replace(one, adjusted={kind: columns[kind][i] for kind in tests}) for i, one in enumerate(found)]
