"""`cliptune bench`: methods × data sets × shots × seeds in one resumable command, with a table at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from cliptune.cli.commands.table import show_rows
from cliptune.cli.shared.inputs import check_device, check_weights, chosen_backbone, tell_notes
from cliptune.cli.shared.options import Assignments, Flag, WeightsOptions
from cliptune.cli.shared.output import count, percent, remark, say
from cliptune.cli.shared.settings import own_hints, resolve, shared_out, typed

if TYPE_CHECKING:
    from cliptune.data.spec import DataSpec
    from cliptune.runs.spec import RunSpec
    from cliptune.sweep import Sweep
    from cliptune.sweep.cells import Cell
    from cliptune.sweep.ray_engine import RayEngine
    from cliptune.sweep.running import Outcome
    from cliptune.training.progress import Progress

FAILED = 1
MOST_NOTES = 20
_SELECTOR = "maple"


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """What is run.

    Parameters
    ----------
    methods
        Separated by commas; add-ons joined by "+", as in coop,maple+dpc. Also paths of files, as in `cliptune train`.
    data
        Names of `cliptune data list` or paths, separated by commas; all11 and other groups stand for their members,
        tinyworld for all its suites.
    root
        Folder that holds the data sets.
    source
        Of --data and --targets, as in `cliptune train`: coop or torchvision.
    seeds
        Separated by commas.
    shots
        Training images per class, separated by commas; 0 for all. Not for data_efficient.
    backbone
        mini, ViT-B/16 (and OpenAI's others), a path, or hf-hub:organisation/name; several separated by commas. If left
        out: ViT-B/16 if it is on this machine, else mini, a toy.
    recipe
        Start from each method's published options for the protocol, number of shots, data set and backbone
        (`cliptune recipes`), instead of its defaults.
    set
        An option of the methods that have it or of the training, name=value, or coop:name=value for one method alone;
        may be repeated.
    steps
        Optimiser steps of every run, in place of epochs; the schedule is stretched to them. Several stages share them
        in proportion to their epochs. Without a meaning for heads that are solved for, which is noted.
    images
        The same, told by how many images the steps see.
    """

    methods: str
    data: str
    root: str | None = None
    source: Literal["coop", "torchvision"] = "coop"
    seeds: str = "1,2,3"
    shots: str = "16"
    backbone: str | None = None
    recipe: Flag = False
    set: Assignments = None
    steps: int | None = None
    images: int | None = None

    @property
    def budget(self) -> dict[str, int]:
        """The one that was given. Raises: ValueError for both."""
        given = {name: value for name in ("steps", "images") if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise ValueError(f"--steps {self.steps} --images {self.images}: a budget is one or the other. Drop one.")
        return given


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How options are chosen before the runs, if they are.

    Parameters
    ----------
    tune
        Values of an option to try, name=value,value; for every method that has it. May be repeated for another option,
        and all combinations are tried then. The best accuracy on the validation images is taken, for each method, data
        set, number of shots and backbone; test images are not looked at. Data without validation images are refused.
    tune_seeds
        Of this search (101,102); none of them may be among --seeds.
    """

    tune: Annotated[list[str] | None, Parameter(negative=())] = None
    tune_seeds: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """What one protocol alone asks.

    Parameters
    ----------
    targets
        For cross and domains: data sets that are scored without training on them, named as in --data. If left out,
        the field's: for imagenet its ten targets or four variants, for a suite of tinyworld all others, or itself in
        every other domain.
    fractions
        For data_efficient: shares of each class's training images, separated by commas (0.1,0.25,0.5).
    selections
        For data_efficient: rules that choose them, separated by commas (uniform): uniform, margin, least_confidence,
        entropy, herding, k_center, grand, forgetting, craig, glister, cal, graph_cut, facility_location, log_det.
    selector
        For data_efficient: the method whose adapter judges the images (maple).
    selector_epochs
        For data_efficient: epochs before it judges (0); forgetting needs at least 2.
    """

    targets: str | None = None
    fractions: str | None = None
    selections: str | None = None
    selector: str | None = None
    selector_epochs: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where the runs are made.

    Parameters
    ----------
    device
        cpu, cuda, cuda:1, mps; a card if there is one.
    workers
        Processes that run side by side with one thread each; 0 runs one after another in this one.
    engine
        local, or ray: on a cluster whose nodes share the folders of the data and of --out.
    address
        For ray: auto, or host:port of the cluster's head. If left out: the cluster that RAY_ADDRESS names or that was
        started last on this machine, or else this machine alone.
    cpus_per_run
        For ray: CPUs that each run reserves and computes with (1).
    gpus_per_run
        For ray: cards that each run reserves, such as 0.5 for two runs on a card (0).
    """

    device: str | None = None
    workers: int = 0
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus_per_run: float | None = None
    gpus_per_run: float | None = None

    def cluster(self) -> RayEngine | None:
        """None on this machine alone. Raises: ValueError for what only a cluster has a use for."""
        if self.engine == "local":
            reserved = {"--cpus-per-run": self.cpus_per_run, "--gpus-per-run": self.gpus_per_run}
            _refuse(reserved, "only --engine ray has a use for it")
            if self.address is not None:
                raise ValueError(f"--address {self.address}: it is that of a Ray cluster. Add --engine ray.")
            return None
        from cliptune.sweep.ray_engine import RayEngine

        return RayEngine(self.address, 1 if self.cpus_per_run is None else self.cpus_per_run, self.gpus_per_run or 0)


def bench(
    protocol: Literal["base2new", "few_shot", "cross", "domains", "data_efficient"],
    /,
    *,
    grid: GridOptions,
    asked: ProtocolOptions = ProtocolOptions(),
    tuning: TuneOptions = TuneOptions(),
    out: str = "runs/bench",
    where: EngineOptions = EngineOptions(),
    weights: WeightsOptions = WeightsOptions(),
) -> int:
    """Run every method on every data set with every number of shots and every seed, and tabulate the results.

    The same command goes on where it was stopped: finished runs are recognised, broken ones resumed. A run that fails
    does not stop the others; it is listed at the end, and the exit code is then 1.

    Parameters
    ----------
    protocol
        few_shot (train and score on all classes), base2new (train on half of the classes, score on either), cross
        (train on all, score on other data sets), domains (the same classes in other pictures), data_efficient (train
        on a share of the whole training set).
    out
        Folder of the runs.
    """
    from cliptune.sweep.bench import grid_rows

    if protocol != "data_efficient":
        judging = {"--selector": asked.selector, "--selector-epochs": asked.selector_epochs}
        shares = {"--fractions": asked.fractions, "--selections": asked.selections}
        _refuse({**shares, **judging}, f"{protocol} has no use for it")
    check_weights(grid.backbone, weights)
    cluster = where.cluster()
    # The cards of this machine say nothing about those of a cluster.
    device = check_device(where.device) if cluster is None else where.device
    sweep = _sweep(protocol, grid, asked, weights.given, {} if device is None else {"device": device})
    run = partial(_run, workers=where.workers, cluster=cluster)
    if tuning.tune is None:
        _refuse({"--tune-seeds": tuning.tune_seeds}, "it is for --tune")
    else:
        tuned = _tuned(sweep, tuning, out, run)
        if tuned is None:
            return FAILED
        sweep = tuned
    cells = sweep.cells(out)
    say(f"{count(len(cells), 'run')} in {out}: {protocol}, {count(len(sweep.methods), 'method')}.")
    outcomes = run(cells)
    return _conclude(outcomes, grid_rows(outcomes), out)


def _run(cells: Sequence[Cell], workers: int, cluster: RayEngine | None) -> list[Outcome]:
    from cliptune.sweep.bench import run_grid

    screen = _Screen(len(cells))
    try:
        return run_grid(cells, workers=workers, ray=cluster, watch=screen.ended, inside=screen.inside)
    finally:
        screen.close()


def _tuned(sweep: Sweep, tuning: TuneOptions, out: str, run: Callable[[Sequence[Cell]], list[Outcome]]) -> Sweep | None:
    """The grid with the options that a search chose; None if one of its runs failed, which is told."""
    from cliptune.sweep import Search

    sweep.cells(out)  # a grid that cannot be is refused before the search, not after it
    seeds = _numbers("101,102" if tuning.tune_seeds is None else tuning.tune_seeds, "tune-seeds")
    search = Search(sweep, _candidates(tuning.tune or (), sweep.methods), seeds, out)
    say(f"{count(len(search.cells), 'run')} to choose options by, on seeds {', '.join(map(str, seeds))}.")
    outcomes = run(search.cells)
    if _failures(outcomes):
        return None
    choices = search.choices(outcomes)
    for choice in choices.values():
        best = ", ".join(f"{name}={value}" for name, value in choice.options.items())
        say(f"  {choice.title}: {best} ({percent(choice.accuracy)} % of validation images, {choice.tried} tried)")
    return search.sweep(choices)


def _candidates(tune: Sequence[str], methods: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Method → the options to try, of those that it has.

    Raises: ValueError for an option that none of the methods has, or no values.
    """
    values: dict[str, list[str]] = {}
    for one in tune:
        name, equals, listed = one.partition("=")
        if not equals or not _listed(listed):
            raise ValueError(f"--tune: expected name=value,value, got {one!r}. For example --tune lr=0.001,0.01.")
        values[name.strip().replace("-", "_")] = _listed(listed)
    found = {method: _tried(values, own_hints(method)) for method in methods}
    for name in values:
        if not any(name in own_hints(method) for method in methods):
            raise ValueError(f"--tune {name}: none of the methods {', '.join(methods)} has such an option.")
    return found


def _tried(values: Mapping[str, Sequence[str]], hints: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations, each once in whatever spelling; none if the method has none of the options."""
    own = {name: [typed(text, hints[name], name) for text in texts] for name, texts in values.items() if name in hints}
    if not own:
        return []
    tried: list[dict[str, Any]] = []
    for combination in product(*own.values()):
        options = dict(zip(own, combination, strict=True))
        if options not in tried:
            tried.append(options)
    return tried


def _sweep(
    protocol: str, grid: GridOptions, asked: ProtocolOptions, loading: Mapping[str, Any], training: Mapping[str, Any]
) -> Sweep:
    """The grid that was asked for; `training` holds for every run."""
    from cliptune.registry import published_options
    from cliptune.registry.listing import takes_steps
    from cliptune.registry.plugins import absolute
    from cliptune.sweep import Sweep

    budget = grid.budget
    methods = [absolute(method) for method in _listed(grid.methods)]
    shares = shared_out([_placed(one) for one in grid.set or ()], methods)

    solved = [method for method in methods if budget and not takes_steps(method)]
    for method in solved:
        name, value = next(iter(budget.items()))
        remark(f"--{name} {value} has no meaning for {method}, which takes no optimiser steps; it is run as it is.")

    def settled(spec: RunSpec) -> RunSpec:
        found = resolve(spec.method, assignments=shares.get(spec.method, ()))
        start: Mapping[str, Any] = {}
        if grid.recipe:
            at = {"data": spec.data.name, "backbone": spec.backbone}
            start = published_options(spec.method, protocol, spec.shots, **at)
        spent = budget if budget and takes_steps(spec.method) else {}
        return replace(spec, options={**start, **found.options}, training={**found.training, **spent, **training})

    return Sweep(
        protocol,
        methods,
        _found(grid.data, grid.root, grid.source),
        [None] if protocol == "data_efficient" else [k if k > 0 else None for k in _numbers(grid.shots, "shots")],
        _numbers(grid.seeds, "seeds"),
        [chosen_backbone(name) for name in (_listed(grid.backbone) if grid.backbone else [None])],
        loading,
        settled,
        lambda data: _asked(protocol, data, asked),
    )


def _placed(assignment: str) -> str:
    """An assignment for one method alone, whose file is named as the methods are."""
    from cliptune.registry.plugins import absolute

    place, equals, value = assignment.partition("=")
    one, colon, name = place.rpartition(":")
    return f"{absolute(one)}{colon}{name}{equals}{value}" if colon else assignment


def _refuse(given: Mapping[str, Any], why: str) -> None:
    """Options that would change nothing. Raises: ValueError for the first that is given."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} {value}: {why}. Leave it out.")


def _conclude(outcomes: Sequence[Outcome], made: Sequence[Any], out: str) -> int:
    """The table, then what failed, then what to do next."""
    if made:
        show_rows(made)
    tell_notes((note for outcome in outcomes for note in outcome.notes), most=MOST_NOTES)
    if _failures(outcomes):
        return FAILED
    say(f"The runs lie in {out}.", "Next:", f"  cliptune table {shlex.quote(out)} --format md")
    return 0


def _failures(outcomes: Sequence[Outcome]) -> bool:
    """Whether there are any; they are told."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        say(f"{count(len(failed), 'run')} of {len(outcomes)} failed:")
        say(*(f"  {outcome.cell.title}: {outcome.error}" for outcome in failed))
        say("The same command tries them again, and leaves alone what is finished.")
    return bool(failed)


class _Screen:
    """A bar over all runs on a terminal, a line per run elsewhere; both with the time left."""

    def __init__(self, total: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = None
        if sys.stderr.isatty():
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._left = ""

    def inside(self, cell: Cell) -> Progress:
        return _Within(cell.title, self._describe)

    def ended(self, outcome: Outcome, done: int, total: int, left: float | None) -> None:
        from cliptune.timing import duration

        self._left = f"; about {duration(left)} left" if left is not None and done < total else ""
        if outcome.error is not None:
            what = f"failed: {outcome.error}"
        else:
            what = "finished before" if outcome.before else duration(outcome.seconds or 0)
        line = f"{done} of {total}: {outcome.cell.title}: {what}"
        if self._bar is None:
            remark(f"{line}{self._left}")
        else:
            self._bar.console.print(line, markup=False, highlight=False)
            self._bar.update(self._task, completed=done)
            self._describe("")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=f"{text}{self._left}".lstrip("; "))


class _Within:
    """Steps of the run that is under way, as words beside the bar over all runs."""

    def __init__(self, title: str, describe: Any):
        self._title, self._describe = title, describe
        self._done, self._total = 0, 0

    def start(self, total: int, done: int) -> None:
        self._done, self._total = done, total
        self._describe(self._title)

    def advance(self, description: str) -> None:
        self._done += 1
        self._describe(f"{self._title}: step {self._done} of {self._total}")

    def say(self, line: str, minor: bool = False) -> None:
        """The run's own log keeps it."""

    def close(self) -> None:
        pass


def _asked(protocol: str, data: DataSpec, asked: ProtocolOptions) -> list[dict[str, Any]]:
    """What the runs on a data set ask of the protocol, besides methods, shots and seeds."""
    if protocol in ("cross", "domains"):
        from cliptune.protocols.transfer import usual_targets

        names = ",".join(usual_targets(protocol, data.name)) if asked.targets is None else asked.targets
        return [{"targets": [other for other in _found(names, data.root, data.source) if other != data]}]
    if asked.targets is not None:
        raise ValueError(f"--targets: {protocol} has none; they are for cross and domains.")
    if protocol != "data_efficient":
        return [{}]
    selector = asked.selector or _SELECTOR
    judged: dict[str, Any] = {} if selector == _SELECTOR and not asked.selector_epochs else {"selector": selector}
    judged |= {"selector_epochs": asked.selector_epochs} if asked.selector_epochs else {}
    shares = _numbers("0.1,0.25,0.5" if asked.fractions is None else asked.fractions, "fractions", float)
    rules = _listed("uniform" if asked.selections is None else asked.selections)
    return [{"fraction": share, "selection": rule, **judged} for rule in rules for share in shares]


def _found(text: str, root: str | None, source: str) -> list[DataSpec]:
    """Data sets by name, each once in whatever spelling; in place of groups and families stand their members."""
    from cliptune.data.catalog import data_group, list_data
    from cliptune.data.spec import DataSpec

    known = [row["name"] for row in list_data()]
    found: list[str] = []
    for name in _listed(text):
        members = [row for row in known if row.startswith(f"{name.lower()}/")]
        found += members or data_group(name)
    return list(dict.fromkeys(DataSpec.found(name, root, source) for name in found))


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(text: str, what: str, kind: type = int) -> list[Any]:
    try:
        return [kind(part) for part in _listed(text)]
    except ValueError:
        noun = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"--{what}: expected {noun} separated by commas, got {text!r}.") from None
