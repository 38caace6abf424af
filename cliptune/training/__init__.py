"""Training, evaluation, checkpoints and run folders."""

from cliptune.runs.checkpoints import load_adapter, read_adapter_config, read_learnables, save_adapter
from cliptune.runs.folder import RunFolder, read_config, read_metrics, read_result
from cliptune.training.budget import within_budget
from cliptune.training.evaluate import Evaluation, evaluate
from cliptune.training.fit import Run, fit
from cliptune.training.loop import TrainingDiverged
from cliptune.training.schedules import learning_rate
from cliptune.training.shared import SharedImages

__all__ = [
    "Evaluation",
    "Run",
    "RunFolder",
    "SharedImages",
    "TrainingDiverged",
    "evaluate",
    "fit",
    "learning_rate",
    "load_adapter",
    "read_adapter_config",
    "read_config",
    "read_learnables",
    "read_metrics",
    "read_result",
    "save_adapter",
    "within_budget",
]
