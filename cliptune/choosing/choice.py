"""The choice of a method by cross-validation on the training images, within a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliptune.adapter import Adapter
from cliptune.choosing.candidates import Candidate, Candidates
from cliptune.choosing.deadline import Deadline, OutOfTime
from cliptune.choosing.estimate import SOURCE, corrected
from cliptune.choosing.folds import FOLDS, Folds, held_out, stratified_folds
from cliptune.clip.model import CLIP
from cliptune.data.items import Dataset
from cliptune.heads import MeanHead
from cliptune.noted import few
from cliptune.prompts import NoPrompt
from cliptune.protocols.training import class_set, evaluation_options, train
from cliptune.results.statistics import Interval, proportion
from cliptune.texts import TemplatePhrasing
from cliptune.timing import Stopwatch, counted, duration
from cliptune.training import SharedImages, evaluate
from cliptune.training.distributed import processes
from cliptune.training.feed import Feed
from cliptune.training.precision import towers_in

Say = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """How a candidate did.

    Args:
        candidate: what was tried.
        accuracy: in % of the held-out images; None if it was left out.
        interval: ends of Wilson's interval, in %.
        folds: accuracy in % of each part.
        seconds: that the trial took.
        new_classes: whether it can be asked about classes that it was not trained on.
        left_out: a sentence, where it was.
    """

    candidate: Candidate
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    folds: tuple[float, ...] = ()
    seconds: float = 0.0
    new_classes: bool | None = None
    left_out: str | None = None
    right: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)

    def summary(self) -> dict[str, Any]:
        """Plain values for a result file."""
        said = {name: value for name, value in vars(self).items() if name not in ("candidate", "right")}
        tried = self.candidate
        return {"method": tried.method, "options": dict(tried.options), "training": dict(tried.training), **said}


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Args:
        chosen: the candidate.
        scores: of all candidates, in their order.
        why: a sentence.
        estimate: accuracy in % of the chosen one on images that did not choose it, with its interval; None where
            nothing could be held out.
        images: how many were held out once.
        folds: parts.
        seconds: that the choice took.
        notes: what was left out, or decided otherwise than asked, a sentence each.
    """

    chosen: Candidate
    scores: tuple[Score, ...]
    why: str
    estimate: Interval | None = None
    images: int = 0
    folds: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain values for a result file."""
        estimated = None if self.estimate is None else {**vars(self.estimate), "by": SOURCE}
        return {
            "method": self.chosen.method,
            "options": dict(self.chosen.options),
            "training": dict(self.chosen.training),
            "why": self.why,
            "estimate": estimated,
            "images": self.images,
            "folds": self.folds,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "tried": [score.summary() for score in self.scores],
        }


def choose(
    clip: CLIP,
    data: Dataset,
    candidates: Candidates,
    *,
    seed: int = 1,
    seconds: float = 300.0,
    classes_later: bool = False,
    folds: int = FOLDS,
    options: Mapping[str, Any] | None = None,
    shared: SharedImages | None = None,
    say: Say | None = None,
    told: Callable[[Score], None] | None = None,
    **training: Any,
) -> Choice:
    """Try candidates on held-out training images, and choose the best; test and validation images are not scored.

    Every class is shared out among the parts, and no class is held out whole: images that are alone in their class are
    always trained on. With one seed, the choice differs between machines only in what the time allows: a candidate that
    would not be tried on every part, and then trained on all images, within it is left out.

    Args:
        clip: the frozen backbone.
        data: sampled, and cut to its classes. Its validation images, if any, are shown to candidates that look at them.
        candidates: in the order of their cost.
        seed: of the parts, the start of the learnables, and so on.
        seconds: for everything.
        classes_later: prefer candidates that can be asked about classes which they were not trained on.
        folds: parts, at most.
        options: of every candidate, such as `template`.
        shared: images that were seen before.
        say: gets lines on how far it is.
        told: gets every score once it is there.
        training: further arguments of `fit` that every candidate takes, such as `device`.
    Returns: the choice; where no class has two images, or no candidate could be tried in the time, that of
        `candidates.untried`, which says so.
    Raises: ValueError if there are no training images.
    """
    if not len(data.train):
        raise ValueError(f"choose: {data.name} has no training images to choose a method on. Name a method.")
    watch, shared = Stopwatch(), shared or SharedImages()
    cut = stratified_folds(data.train.labels.tolist(), seed, folds)
    if not cut.held:
        return _untried(candidates.untried, f"No class of {data.name} has two training images to hold one out")
    notes = [_alone(data, cut)] if cut.always else []
    trial = _Trial(clip, data, cut, seed, dict(options or {}), shared, training, watch, seconds)
    trial.look(say)
    scores = []
    for candidate in counted(candidates.tried, len(candidates.tried), "Choosing", say):
        scores.append(trial.score(candidate))
        if told is not None:
            told(scores[-1])
    done = [score for score in scores if score.right is not None]
    if not done:
        return _untried(candidates.untried, "No candidate could be tried in the time", tuple(scores), watch.seconds)
    wanted = [score for score in done if score.new_classes] if classes_later else done
    wanted = wanted or done
    best = max(wanted, key=lambda score: score.accuracy or 0.0)
    if classes_later:
        notes += _given_up(best, done)
    estimate = _percent(corrected(np.stack([s.right for s in wanted if s.right is not None], axis=1), seed=seed))
    why = (
        f"{best.candidate.title} was right most often on {len(cut.scored)} training images, each held out once in "
        f"{len(cut.held)} parts"
        + (", among the methods that can be asked about other classes later." if classes_later else ".")
    )
    return Choice(
        best.candidate, tuple(scores), why, estimate, len(cut.scored), len(cut.held), watch.seconds, tuple(notes)
    )


def speaks_of_others(adapter: Adapter) -> bool:
    """Whether an adapter, once trained, can be asked about classes that it was not trained on."""
    return not (adapter.prompt.class_specific or adapter.head.class_specific or adapter.known_texts is not None)


@dataclass
class _Trial:
    """What all candidates are tried on."""

    clip: CLIP
    data: Dataset
    cut: Folds
    seed: int
    options: Mapping[str, Any]
    shared: SharedImages
    training: Mapping[str, Any]
    watch: Stopwatch
    seconds: float

    def look(self, say: Say | None) -> None:
        """Embed the training images as they are, which most candidates need."""
        classes = replace(class_set(self.data), truncate=bool(self.options.get("truncate")))
        bare = Adapter(self.clip, classes, TemplatePhrasing(), NoPrompt(), MeanHead())
        precision, workers = self.training.get("precision", "fp32"), self.training.get("workers", 0)
        with processes(self.training.get("device")) as group:
            bare.to(group.device)
            feed = Feed(bare, self.data, group, seed=self.seed, workers=workers, shared=self.shared, say=say)
            with towers_in(self.clip, precision):
                feed.embeddings("train")

    def score(self, candidate: Candidate) -> Score:
        """Every part held out once, or why not."""
        watch, parts = Stopwatch(), len(self.cut.held)
        right = np.zeros(len(self.data.train), dtype=bool)
        by_fold, new_classes = [], None
        try:
            for fold, held in enumerate(self.cut.held):
                once = Stopwatch()
                # The training on all images comes on top, and is longer by the part that is held out here.
                deadline = Deadline(self.seconds - self.watch.seconds, parts - fold + parts / (parts - 1))
                adapter, answers = self._part(candidate, fold, deadline)
                right[list(held)] = answers
                by_fold.append(100 * float(answers.mean()))
                new_classes = speaks_of_others(adapter)
                deadline.check(once.seconds)
        except OutOfTime as late:
            sentence = (
                f"{candidate.title} was left out: in {parts} parts and on all images it would take "
                f"{duration(late.needed)}, and {duration(max(self.seconds - self.watch.seconds, 0))} of "
                f"{duration(self.seconds)} are left."
            )
            return Score(candidate, seconds=watch.seconds, left_out=sentence)
        except ValueError as error:
            return Score(candidate, seconds=watch.seconds, left_out=f"{candidate.title} was left out: {error}")
        scored = right[self.cut.scored]
        share = proportion(int(scored.sum()), len(scored))
        interval = (100 * share.low, 100 * share.high)
        return Score(
            candidate, 100 * share.estimate, interval, tuple(by_fold), watch.seconds, new_classes, right=scored
        )

    def _part(self, candidate: Candidate, fold: int, deadline: Deadline) -> tuple[Adapter, NDArray[np.bool_]]:
        """Train on the rest, and answer what is held out."""
        part = held_out(self.data, self.cut, fold, self.seed)
        how = {**self.training, **candidate.training, "shared": self.shared}
        run = train(
            candidate.method,
            self.clip,
            part,
            protocol="choice",
            seed=self.seed,
            options={**self.options, **candidate.options},
            progress=deadline,
            **how,
        )
        answers = evaluate(run.adapter, part.test, **evaluation_options({**how, "progress": "silent"}))
        assert answers.predictions is not None
        return run.adapter, answers.predictions.right.numpy()


def _untried(untried: Candidate, reason: str, scores: tuple[Score, ...] = (), seconds: float = 0.0) -> Choice:
    sentence = f"{reason}, so {untried.title} is taken without a comparison, and nothing is known of how good it is."
    return Choice(untried, scores, sentence, seconds=seconds, notes=(sentence,))


def _alone(data: Dataset, cut: Folds) -> str:
    names = [repr(data.class_names[int(data.train.labels[position])]) for position in cut.always]
    return (
        f"Classes with one training image, which is always trained on, so that the choice does not see how well they "
        f"are told apart: {few(names)}."
    )


def _given_up(best: Score, done: list[Score]) -> list[str]:
    """What the preference cost."""
    if not best.new_classes:
        return ["No method that was tried can be asked about other classes later, so the best of the others is taken."]
    first = max(done, key=lambda score: score.accuracy or 0.0)
    if (first.accuracy or 0.0) <= (best.accuracy or 0.0):
        return []
    return [
        f"{first.candidate.title} was right more often, {first.accuracy:.1f} % against {best.accuracy:.1f} %, but "
        "cannot be asked about other classes later."
    ]


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.estimate, 100 * share.low, 100 * share.high)
