"""Transfer: train on all classes of one data set, score on others without training again.

Both protocols start from the run that few-shot learning makes of the source: one training serves all three, and a
target is scored from the run's folder whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.data.catalog import data_group, list_data
from cliptune.data.items import Dataset
from cliptune.data.published.facts import published
from cliptune.data.tinyworld import DOMAINS
from cliptune.noted import few
from cliptune.protocols.few_shot_learning import few_shot_run
from cliptune.protocols.training import class_set, evaluation_options, score
from cliptune.texts import ClassSet
from cliptune.training import Run
from cliptune.training.fit import add_notes

CROSS, DOMAIN = "cross", "domains"
_GROUPS = {CROSS: "cross10", DOMAIN: "shifts4"}


def cross_dataset(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    targets: Sequence[Dataset],
    *,
    shots: int | None = 16,
    seed: int = 1,
    **training: Any,
) -> dict[str, Any]:
    """Train on few images of all classes of a source; score each target among its own classes.  (arXiv:2203.05557,
    Sec. 4.2)

    Args:
        method: a host with add-ons, such as "coop".
        clip: the frozen backbone.
        dataset: the source, whole; the field takes ImageNet.
        targets: other data sets; only their test images and class names are looked at.
        shots, seed: as in `few_shot`.
        training: further arguments of `few_shot`, such as `out`, `options` and `source`.
    Returns: the run's result. Its evaluation "test" is that of the source, "NAME/test" that of the target NAME; under
        "targets" stands what each was measured on. For a method that holds values for its training classes there are
        no targets, and "why_no_targets" says why.
    Raises: ValueError for targets that cannot be scored, before anything runs.
    """
    return _transfer(CROSS, method, clip, dataset, targets, shots=shots, seed=seed, **training)


def domain_generalization(
    method: str,
    clip: CLIP,
    dataset: Dataset,
    targets: Sequence[Dataset],
    *,
    shots: int | None = 16,
    seed: int = 1,
    **training: Any,
) -> dict[str, Any]:
    """Train on few images of all classes of a source; score other pictures of its classes, or of some of them.
    (arXiv:2203.05557, Sec. 4.3)

    Args and returns as in `cross_dataset`; a target asks for its own class names alone (200 for ImageNet-A and -R), in
    the words and descriptions of the source. A method that holds values for its training classes is scored on targets
    of exactly these classes.
    Raises: ValueError also if a target has a class that the source has not.
    """
    return _transfer(DOMAIN, method, clip, dataset, targets, shots=shots, seed=seed, **training)


def usual_targets(protocol: str, source: str) -> list[str]:
    """Names of the targets that the field, or Tinyworld, has for a source.

    Args:
        protocol: "cross" or "domains".
        source: name of a data set. ImageNet has ten targets and four variants, a Tinyworld suite all other suites and
            its own pictures in every other domain.
    Raises: ValueError for any other source.
    """
    name = source.lower()
    family, _, suite = name.partition("/")
    if family == "tinyworld" and suite:
        whole, _, own = name.partition("-")
        if protocol == DOMAIN:
            others = (domain for domain in DOMAINS if domain != (own or "photo"))
            return [whole if domain == "photo" else f"{whole}-{domain}" for domain in others]
        return [row["name"] for row in list_data() if row["name"].startswith("tinyworld/") and row["name"] != whole]
    if name in published()["imagenet"].spellings:
        return data_group(_GROUPS[protocol])
    raise ValueError(
        f"{protocol}: no targets are usual for the source {source!r}; they are for imagenet and the suites of "
        "tinyworld. Say which: --targets NAME,NAME."
    )


def note_target(result: dict[str, Any], name: str, protocol: str | None, target: Dataset, adapter: Adapter) -> None:
    """Enter into a run's result what its evaluation `name` is measured on; one measured on anything else is dropped.

    Args:
        name: of the evaluation, "DATA/test".
        protocol: that asks for it; one evaluation can serve both. None if it is scored by hand.
        target: of which the split is noted.
        adapter: asked about the target's classes, of whose words it is noted what decides numbers.
    """
    notes = result.setdefault("targets", {})
    measured = {"split_sha256": target.split_sha256, "template": adapter.classes.template}
    if adapter.descriptions_sha256 is not None:
        measured["descriptions_sha256"] = adapter.descriptions_sha256
    before = notes.get(name, {})
    if {key: value for key, value in before.items() if key != "protocols"} != measured:
        if result.get("evaluations", {}).pop(name, None) is not None and before:
            add_notes(result, f"The earlier evaluation {name!r} was dropped: it was of another split, or other words.")
        before = {}
    asked = {*before.get("protocols", ()), *([] if protocol is None else [protocol])}
    notes[name] = {**measured, "protocols": sorted(asked)}


def _transfer(
    protocol: str, method: str, clip: CLIP, dataset: Dataset, targets: Sequence[Dataset], **few_shot: Any
) -> dict[str, Any]:
    _check(protocol, dataset, targets)
    run = few_shot_run(method, clip, dataset, **few_shot)
    settings = evaluation_options(few_shot)
    trained = run.adapter.trained_classes
    told = "why_no_targets" in run.result  # a finished run stays as it was written
    try:
        for target in targets:
            _score_on(run, protocol, target, trained, settings)
    finally:
        run.adapter.set_classes(trained, seen=True)
    if "why_no_targets" in run.result and not told:
        unscored = [target.name for target in targets if f"{target.name}/test" not in run.result["evaluations"]]
        run.note(f"{protocol}: {few(unscored)} were not scored, because {run.result['why_no_targets']}.")
    if run.folder is not None:
        run.folder.write_result(run.result)
    return run.result


def _score_on(run: Run, protocol: str, target: Dataset, trained: ClassSet, settings: Mapping[str, Any]) -> None:
    adapter = run.adapter
    if protocol == DOMAIN:
        classes = class_set(target, trained).with_template(trained.template)
    else:
        classes = class_set(target)
    if (adapter.prompt.class_specific or adapter.head.class_specific) and classes.names != trained.names:
        run.result["why_no_targets"] = (
            f"{run.result['method']} holds values for its training classes and knows no others"
        )
        return
    name = f"{target.name}/test"
    adapter.set_classes(classes)
    note_target(run.result, name, protocol, target, adapter)
    if name not in run.result["evaluations"]:
        run.note(*target.notes, *adapter.texts.notes)
    score(run, name, target.test, **settings)


def _check(protocol: str, source: Dataset, targets: Sequence[Dataset]) -> None:
    """Before hours of training."""
    if not targets:
        raise ValueError(f"{protocol}: there are no targets to score on. Give at least one data set.")
    names = [target.name for target in targets]
    for target in targets:
        if target.name == source.name or names.count(target.name) > 1:
            what = "the source itself" if target.name == source.name else "given more than once"
            raise ValueError(f"{protocol}: the target {target.name} is {what}. Give other data sets, each once.")
        if not len(target.test):
            raise ValueError(f"{protocol}: {target.name} has no test images to score on. Add some, or leave it out.")
        foreign = [name for name in target.class_names if name not in set(source.class_names)]
        if protocol == DOMAIN and foreign:
            raise ValueError(
                f"{protocol}: {target.name} has {len(foreign)} classes that {source.name} has not, such as "
                f"{foreign[0]!r}, so it does not show the source in another domain. Use cross for it."
            )
