"""How `fit` chooses a method, and what it tells beside the trained one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliptune.cli.shared.inputs import describe_data, notes_said_once
from cliptune.cli.shared.options import RunOptions
from cliptune.cli.shared.output import count, remark, say

if TYPE_CHECKING:
    from cliptune.clip import CLIP
    from cliptune.data import Dataset
    from cliptune.runs import RunSpec
    from cliptune.training import SharedImages

AUTO = "auto"
USUAL_TIME = "5m"
# What all methods understand, and can be said where none is named.
_COMMON = {
    "template",
    "descriptions",
    "truncate",
    "precision",
    "workers",
    "cache_images",
    "cache_features",
    "save_every",
}
_COMMON_OPTIONS = ("template", "descriptions", "truncate")


def check_choosing(method: str, time: str | None, classes_later: bool) -> float:
    """Seconds that choosing may take.

    Raises: ValueError for a time that is none, if something is said of a choice though a method is named, or if
        several processes would choose.
    """
    from cliptune.choosing import parse_seconds

    if method != AUTO:
        given = [flag for flag, here in (("--time", time is not None), ("--classes-later", classes_later)) if here]
        if given:
            raise ValueError(
                f"{' and '.join(given)}: it is for choosing a method, and --method names one. Leave one of them out."
            )
    elif _processes() > 1:
        raise ValueError(
            "fit: a method is chosen in one process. Start it without torchrun, and train what it names with torchrun."
        )
    try:
        return parse_seconds(USUAL_TIME if time is None else time)
    except ValueError as error:
        raise ValueError(f"--time: {error}") from error


def check_common(run: RunOptions) -> None:
    """Raises: ValueError for settings that only some of the methods that are tried have."""
    assigned = [assignment.partition("=")[0].strip().replace("-", "_") for assignment in run.set or ()]
    named = [*assigned, *(name for name, value in run.shortcuts.items() if value is not None)]
    own = [name for name in named if name not in _COMMON] + ["what --config holds"] * (run.config is not None)
    if own:
        raise ValueError(
            f"fit: {', '.join(own)} cannot be set while the method is chosen, because each that is tried has settings "
            f"of its own. Name the method: --method NAME. Without one, {', '.join(sorted(_COMMON))} can be set."
        )


def chosen(
    spec: RunSpec,
    data: Dataset,
    out: Path,
    clip: CLIP,
    shared: SharedImages,
    *,
    seconds: float,
    classes_later: bool,
    device: str | None,
    overwrite: bool,
) -> tuple[RunSpec, dict[str, Any]]:
    """The run with the method that suits its training images, and the choice; both are told."""
    from cliptune.choosing import settle, usual_candidates
    from cliptune.timing import duration

    with notes_said_once():
        sampled = data if spec.shots is None else data.few_shot(spec.shots, spec.seed)
    candidates = usual_candidates()
    describe_data(sampled)
    say(
        f"Method: one of {len(candidates.tried)}, chosen on parts of the training images that are held out in turn, in "
        f"at most {duration(seconds)} (--time); backbone {clip.name}; seed {spec.seed}."
    )
    with notes_said_once():
        found, choice, kept = settle(
            spec,
            out,
            clip,
            sampled,
            candidates,
            seconds=seconds,
            classes_later=classes_later,
            overwrite=overwrite,
            shared=shared,
            device=device,
            say=remark,
            told=lambda score: say(f"  {_line(score.summary())}"),
        )
    if kept:
        say(f"It was chosen before, as {out}/choice.json says (--overwrite chooses anew):")
        say(*(f"  {_line(score)}" for score in choice["tried"]))
    _tell_choice(choice)
    return found, choice


def _line(score: Mapping[str, Any]) -> str:
    """One candidate's result."""
    from cliptune.choosing import Candidate

    title = Candidate(score["method"], score["options"], score["training"]).title
    if score["accuracy"] is None:
        return str(score["left_out"])
    low, high = score["interval"]
    return f"{title:24s} {score['accuracy']:6.2f} %  ({low:.1f} to {high:.1f}), {score['seconds']:.1f} s"


def _tell_choice(choice: Mapping[str, Any]) -> None:
    estimate = choice["estimate"]
    say(f"Chosen: {choice['method']}. {choice['why']}" if estimate else choice["why"])
    if estimate:
        say(
            f"Its accuracy on other images, corrected for its having been chosen on these: {estimate['estimate']:.1f} "
            f"% (95 % interval {estimate['low']:.1f} to {estimate['high']:.1f})."
        )
        say(*(f"  {note}" for note in choice["notes"]))
    say("")


def tell_beside(
    result: Mapping[str, Any],
    out: Path,
    spec: RunSpec,
    data: Dataset,
    clip: CLIP,
    shared: SharedImages,
    *,
    device: str | None,
    command: Callable[[str], str],
) -> None:
    """Baselines on the images that the run was scored on, and which of them does better.

    Args:
        result: of the finished run in `out`.
        command: method → the command line that fits it in place of the run's.
    """
    from cliptune.choosing import beside, usual_candidates
    from cliptune.results.statistics import proportion

    if _processes() > 1:
        remark("Baselines are compared in one process: give the command once more without torchrun to see them.")
        return
    with notes_said_once():
        sampled = data if spec.shots is None else data.few_shot(spec.shots, spec.seed)
        found = beside(
            out,
            clip,
            sampled,
            usual_candidates().beside,
            seed=spec.seed,
            options={name: spec.options[name] for name in _COMMON_OPTIONS if name in spec.options},
            shared=shared,
            device=device,
            **{name: spec.training[name] for name in ("precision", "workers") if name in spec.training},
        )
    if not found:
        return
    own = result["evaluations"][found[0].evaluation]
    share = proportion(round(own["accuracy"] * own["n"] / 100), own["n"])
    say(f"Beside it, on the same {count(own['n'], 'image')} (with 95 % intervals):")
    say(_row(spec.method, 100 * share.estimate, 100 * share.low, 100 * share.high))
    say(*(_row(one.method, one.accuracy, one.low, one.high) for one in found))
    better = max(found, key=lambda one: one.difference)
    if better.difference <= 0:
        return
    span = f"{better.difference_low:+.1f} to {better.difference_high:+.1f}"
    if better.verdict > 0:
        say(f"{better.method} is better here than {spec.method}, by {better.difference:.1f} points ({span}):")
    else:
        say(
            f"{better.method} has more of them right than {spec.method}, but so few images do not tell the two apart "
            f"({span} points):"
        )
    say(f"  {command(better.method)}")


def _row(method: str, accuracy: float, low: float, high: float) -> str:
    return f"  {method:16s} {accuracy:6.2f} %  ({low:.1f} to {high:.1f})"


def command_line(folder: str, given: Mapping[str, Any], method: str, out: Path) -> str:
    """`cliptune fit` with a method.

    Args:
        given: option → value, with _ or - in its name; those that are None or False are left out.
    """
    words = ["cliptune", "fit", folder, "--method", method]
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, f"{value:g}" if isinstance(value, float) else f"{value}"]
    return shlex.join([*words, "--out", str(out)])


def _processes() -> int:
    """That `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))
