"""The loop: stages, epochs, steps. What it needs lies around it: batches in `feed`, what is kept in `state`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cliptune.data.transforms import mixed
from cliptune.recipe import Recipe, Stage
from cliptune.runs.folder import RunFolder
from cliptune.runs.jsonable import jsonable
from cliptune.runs.prompt_log import line_of
from cliptune.timing import SHOWN_EVERY, Stopwatch, time_left
from cliptune.training.budget import all_steps, length, steps_in
from cliptune.training.continued import End
from cliptune.training.distributed import Processes
from cliptune.training.evaluate import evaluate
from cliptune.training.feed import Feed
from cliptune.training.gradients import LossOf, add_gradients
from cliptune.training.memory import PeakMemory
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.precision import build_scaler
from cliptune.training.reporting import Reporter
from cliptune.training.schedules import learning_rate
from cliptune.training.state import Best, Position, capture, restore_adapter, restore_stage

if TYPE_CHECKING:
    from cliptune.adapter import Adapter


class TrainingDiverged(ValueError):
    """The loss or a learnable is no longer a finite number."""


@dataclass(frozen=True)
class Options:
    """How a run is made.

    Args:
        seed: everything random in a step is drawn from (seed, stage, epoch, step), so that a step does not depend on
            how the run came to it.
        precision: of the frozen towers: "fp32", "bf16", "fp16".
        accumulate: pieces that each process's share of a batch is computed in.
        select: "last" takes each stage's last epoch, "val" the one with the best accuracy on the validation images,
            "oracle" the one with the best accuracy on the test images.
        save_every: seconds between saved states within an epoch.
        log_prompts: keep what enters the towers at the start of each stage and after every epoch.
    """

    seed: int = 1
    precision: str = "fp32"
    accumulate: int = 1
    select: str = "last"
    save_every: float = 60.0
    log_prompts: bool = False


class Training:
    """One run under way.

    Args:
        recipe: its adapter is trained in place.
        feed: gives the batches.
        processes: who shares the work.
        reporter: where lines, progress and metrics are shown.
        folder: where state and metrics are kept; None keeps nothing.
        options: how.
        begin: opens the finished run whose end stands for the first stages; None trains them. Asked only where no
            state is saved yet.
        remarks: sentences on what was replaced or decided before the run, to be noted and said.
    """

    def __init__(
        self,
        recipe: Recipe,
        feed: Feed,
        processes: Processes,
        reporter: Reporter,
        folder: RunFolder | None,
        options: Options,
        begin: Callable[[], End] | None = None,
        remarks: Sequence[str] = (),
    ):
        self.remarks = remarks
        self.recipe, self.feed, self.processes = recipe, feed, processes
        self.reporter, self.folder, self.options, self.begin = reporter, folder, options, begin
        self.adapter: Adapter = recipe.adapter
        self._selector = {"last": None, "val": "val", "oracle": "test"}[options.select]
        self.position = Position()
        self._resumed: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._memory = PeakMemory(processes.device)
        self._since_tick, self._since_save = Stopwatch(), Stopwatch()

    def run(self) -> None:
        """Go on from the folder's saved state, or start."""
        self._resume()
        for sentence in self.remarks:
            self.note(sentence)
        for number in range(self.position.stage, len(self.recipe.stages)):
            stage = self.recipe.stages[number]
            torch.manual_seed(mixed(self.options.seed, number))
            for begin in stage.before:
                begin(self.adapter)
            self.feed.begin(stage)
            if stage.optimiser is None:
                self._observe(number, stage)
            else:
                self._train(number, stage)
            self.position.next_stage()
            self._save()

    def note(self, sentence: str) -> None:
        """Keep a sentence for the result, and say it; once, also if the run is resumed."""
        if sentence not in self.position.notes:
            self.position.notes.append(sentence)
            self.reporter.say(sentence)

    def _train(self, number: int, stage: Stage) -> None:
        assert stage.optimiser is not None
        assert stage.objective is not None
        adapter, feed, position = self.adapter, self.feed, self.position
        optimiser = build_optimiser(stage.optimiser, adapter.trainable())
        scaler = build_scaler(self.options.precision, self.processes.device)
        best = None
        if self._resumed is not None:
            best = restore_stage(adapter, *self._resumed, stage, optimiser, scaler)
            self._resumed = None
        model = self.processes.wrap(LossOf(adapter, stage.objective))
        steps = feed.steps(stage)
        epochs = length(stage, steps)
        if (position.epoch, position.step) == (0, 0):
            self._log_prompt(stage, 0)

        adapter.train()
        for epoch in range(position.epoch, stage.epochs):
            end = steps_in(stage, epoch, steps)
            shown = feed.training(stage, number, epoch, position.step)
            for batch, embedding in islice(shown, end - position.step):
                rate = learning_rate(stage.optimiser, epoch, epochs, position.step, steps)
                set_rate(optimiser, rate)
                optimiser.zero_grad()
                sums = add_gradients(
                    model,
                    batch,
                    embedding,
                    progress=epoch / epochs,
                    whole=feed.batch_size(stage, batch, position.step),
                    pieces=self.options.accumulate,
                    seed=mixed(self.options.seed, number, epoch, position.step),
                    scaler=scaler,
                    processes=self.processes,
                )
                if not math.isfinite(sums["loss"]):
                    raise self._diverged(f"The loss became {sums['loss'] / sums['images']}", stage, rate)
                self._step(optimiser, scaler)
                position.add(sums)
                self.reporter.advance(f"{stage.name}, epoch {epoch + 1} of {stage.epochs}")
                if self._since_save.seconds >= self.options.save_every:
                    self._save(stage, rate, optimiser, scaler, best)

            torch.manual_seed(mixed(self.options.seed, number, epoch, steps))
            with torch.no_grad():
                adapter.head.refit()
            for hook in stage.after_epoch:
                hook(adapter, epoch, stage.epochs)
            score = self._score()
            if score is not None and (best is None or score > best.score):
                best = Best(score, epoch + 1, adapter.learnables())
            rate = learning_rate(stage.optimiser, epoch, epochs, end - 1, steps)
            self._log_prompt(stage, epoch + 1)
            self._end_epoch(stage, rate, score)
            self._save(stage, rate, optimiser, scaler, best)
        if position.skipped:
            self.note(
                f"{stage.name}: {position.skipped} of {all_steps(stage, steps)} steps changed nothing, because "
                f"gradients were too large for {self.options.precision}."
            )
            position.skipped = 0
        if best is not None:
            adapter.load_learnables(best.learnables)
            position.selected.append({"stage": stage.name, "epoch": best.epoch, "accuracy": best.score})

    def _step(self, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Step, unless scaled gradients overflowed: then the scaler leaves it out, lowers the scale, and it counts."""
        scale = scaler.get_scale()
        scaler.step(optimiser)
        scaler.update()
        if scaler.is_enabled() and scaler.get_scale() < scale:
            self.position.skipped += 1

    def _observe(self, number: int, stage: Stage) -> None:
        """Show whole splits to the head, in order; nothing moves by gradient. Only training images are augmented."""
        self.adapter.eval()
        torch.manual_seed(mixed(self.options.seed, number))
        seen = [name for name in stage.observe if len(self.feed.data[name])]
        with torch.no_grad():
            text = self.adapter.text_features()
            for name in seen:
                augmented = stage.augment and name == "train"
                ordered = self.feed.in_order(
                    name, number if augmented else None, stage.observe_views, stage.average_views
                )
                for batch, embedding in ordered:
                    out = self.adapter(batch, text_features=text, image_embedding=embedding)
                    self.adapter.head.observe(out, batch.labels, split=name)
                if name == "train":
                    self.position.images_seen += len(self.feed.data.train) * stage.observe_views
            self._refit_aloud(stage, seen)
        self._resumed = None
        self._tick()
        self._record({"stage": stage.name, "epoch": 1, "observed": seen, "seconds": self.position.seconds})
        self.reporter.say(f"{stage.name}: saw the {' and '.join(seen)} images once", minor=True)

    def _refit_aloud(self, stage: Stage, seen: list[str]) -> None:
        """Let the head fit and search, which may take minutes: now and then it is shown how far it is."""
        head, started, shown = self.adapter.head, Stopwatch(), Stopwatch()
        head.share = None

        def hear(line: str, minor: bool) -> None:
            nonlocal shown
            if not minor:
                self.note(f"{stage.name}: {line}.")
            elif shown.seconds >= SHOWN_EVERY:
                left = f", {time_left(started.seconds, head.share)} left" if head.share else ""
                self.reporter.say(f"{stage.name}: {line}{left}")
            else:
                return
            shown = Stopwatch()

        head.listener = hear
        try:
            head.refit()
        finally:
            head.listener = None
        if head.chosen is not None:
            self.position.chosen = jsonable(head.chosen)
            chose = " and ".join(f"{name} = {value:.4g}" for name, value in head.chosen["chose"].items())
            self.reporter.say(f"{stage.name}: chose {chose} on {head.chosen['images']} validation images")
        elif "validation_images" in self.recipe.flags and "val" in stage.observe and "val" not in seen:
            self.position.chosen = {"images": 0}
            self.note(f"{stage.name}: there are no validation images to choose on, so the values that were set stay.")
        elif absent := [name for name in stage.observe if name not in seen]:
            self.note(f"{stage.name}: there are no {' and '.join(absent)} images, so only the others were looked at.")

    def _score(self) -> float | None:
        """Accuracy in % on the split that selects the epoch, or None if the last epoch is taken."""
        name = self._selector
        if name is None:
            return None

        def accuracy() -> float:
            known = self.feed.embeddings(name)
            split, images = self.feed.data[name], self.feed.images
            numbers = evaluate(
                self.adapter,
                split,
                workers=self.feed.workers,
                images=images,
                embeddings=known,
                keep_predictions=False,
            )
            return numbers.accuracy

        return self.processes.from_main(accuracy)

    def _end_epoch(self, stage: Stage, rate: float, score: float | None) -> None:
        self._tick()
        position, sums = self.position, self.position.totals
        line: dict[str, Any] = {"stage": stage.name, "epoch": position.epoch + 1, "lr": rate}
        line["loss"] = sums["loss"] / sums["images"]
        line["parts"] = {
            name.removeprefix("part "): value / sums["images"]
            for name, value in sums.items()
            if name.startswith("part ")
        }
        # Unlabelled images (a teacher's) have no accuracy.
        line["train_accuracy"] = 100 * sums["correct"] / sums["known"] if sums["known"] else None
        if score is not None:
            line[f"{self._selector}_accuracy"] = score
        line["seconds"] = position.seconds
        self._record(line)
        shown = [f"loss {line['loss']:.4f}"]
        if line["train_accuracy"] is not None:
            shown.append(f"train accuracy {line['train_accuracy']:.1f} %")
        if score is not None:
            shown.append(f"{self._selector} accuracy {score:.1f} %")
        epoch = f"{stage.name}, epoch {position.epoch + 1} of {stage.epochs}"
        self.reporter.say(f"{epoch}: {', '.join(shown)}, lr {rate:.3g}", minor=True)
        position.next_epoch()

    def _record(self, line: dict[str, Any]) -> None:
        if self.folder is not None and self.processes.main:
            self.position.metrics_size = self.folder.append_metrics(line)
        self.position.epochs_done += 1
        self.reporter.metrics(line, self.position.epochs_done)

    def _log_prompt(self, stage: Stage, epoch: int) -> None:
        """One line, if it was asked for, now or before the run was stopped."""
        position = self.position
        if not (self.options.log_prompts or position.prompts_size) or self.folder is None or not self.processes.main:
            return
        with self.adapter.evaluating():
            line = line_of(self.adapter.prompt, stage.name, epoch)
        if line["leaves"]:
            if not position.prompts_size and position.steps_taken:
                self.note(f"Prompts are logged from {stage.name}, epoch {epoch} on; this run began without.")
            position.prompts_size = self.folder.append_prompts(line)
        else:
            self.note("Prompts are not logged: this method puts no tokens, biases or deltas into a tower.")

    def _resume(self) -> None:
        saved = self.processes.from_main(lambda: None if self.folder is None else self.folder.load_state())
        if saved is None:
            # All processes start from the same learnables, and a first failure can go back to them.
            saved = self.processes.from_main(self._start)
            self.position = restore_adapter(self.adapter, *saved)
            self._save()
        else:
            self.position = restore_adapter(self.adapter, *saved)
            self._resumed = saved
        if self.folder is not None and self.processes.main:
            self.folder.truncate_metrics(self.position.metrics_size)
            self.folder.truncate_prompts(self.position.prompts_size)
        if self.position.continues is not None:
            from_run = self.position.continues
            self.note(f"The first stage is that of the {from_run['method']} run in {from_run['run']}")
        counts = [all_steps(s, self.feed.steps(s)) if s.optimiser else 0 for s in self.recipe.stages]
        at = self.position
        done = sum(counts[: at.stage])
        if at.stage < len(counts) and counts[at.stage]:
            done += at.epoch * self.feed.steps(self.recipe.stages[at.stage]) + at.step
        if self._resumed is not None:
            self.reporter.say(f"Resuming after step {done} of {sum(counts)}")
        self.reporter.start(sum(counts), done)

    def _start(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state before the first step: the adapter as it was built, or the end of the run that is gone on from."""
        if self.folder is not None:
            self.folder.truncate_metrics(0)
            self.folder.truncate_prompts(0)
        if self.begin is not None:
            end = self.begin()
            self.adapter.load_learnables(end.learnables)
            self.position = end.position
            if self.folder is not None:
                for line in end.metrics:
                    self.position.metrics_size = self.folder.append_metrics(line)
                for line in end.prompts if self.options.log_prompts else ():
                    self.position.prompts_size = self.folder.append_prompts(line)
        return capture(self.adapter, self.position)

    def _save(self, stage: Stage | None = None, rate: float = 0.0, *moving: Any) -> None:
        """Save the state, unless a learnable is no longer finite: then the last good state stays."""
        self._tick()
        if stage is not None and not all(bool(p.isfinite().all()) for p in self.adapter.trainable().values()):
            raise self._diverged("A learnable became infinite or not a number", stage, rate)
        if self.folder is not None and self.processes.main:
            self.folder.save_state(*capture(self.adapter, self.position, stage, *moving))
        self._since_save = Stopwatch()

    def _tick(self) -> None:
        passed, self._since_tick = self._since_tick.seconds, Stopwatch()
        self.position.seconds += passed
        self.position.whole_seconds += passed
        self.position.held(self._memory.bytes())

    def _diverged(self, what: str, stage: Stage, rate: float) -> TrainingDiverged:
        at = self.position
        kept = "" if self.folder is None else f" The last good state stays in {self.folder.path}."
        return TrainingDiverged(
            f"{what} in stage {stage.name!r}, epoch {at.epoch + 1} of {stage.epochs}, step {at.step + 1}, at learning "
            f"rate {rate:g}. Try a lower learning rate, a longer warm-up, or precision 'fp32' if it was narrower.{kept}"
        )
