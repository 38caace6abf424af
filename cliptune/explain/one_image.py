"""Explaining a run's answer to one picture file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cliptune.analysis.overlays import laid_over
from cliptune.analysis.prediction import Prediction, explain_prediction
from cliptune.data import read_image
from cliptune.explain.figures import COLOURS, SMALL, figure, legend, look
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.explain.running import Explained, drawn
from cliptune.images import as_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ImageExplanation(Explanation[Prediction]):
    """Why a picture is named as it is; its name is "image-STEM".

    Args:
        path: of the picture.
    """

    source = "probabilities of the run; maps: arXiv:1610.02391; causes: arXiv:2506.01000"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"image-{path.stem}"  # type: ignore[misc]
        self.title = f"Why {path.name} is named as it is"  # type: ignore[misc]

    def explain(self, run: OpenedRun) -> Prediction:
        picture = read_image(self.path, exif=True)
        return explain_prediction(run.adapter, as_batch([picture], run.adapter.resolution), self.path.name)

    def draw(self, found: Prediction) -> Mapping[str, Figure]:
        made, axes = figure(2, 2, height=4.2)
        axes[0].imshow(found.picture.permute(1, 2, 0))
        axes[0].set_title("as it is shown to CLIP")
        if found.overlay is not None:
            axes[1].imshow(laid_over(found.overlay.picture, found.overlay.after))
            axes[1].set_title(f"where it speaks for {found.answers[0][0]}")
        for axis in axes[:2]:
            axis.set_axis_off()
        for axis in axes[2:]:
            axis.remove()
        rows = list(range(len(found.answers)))[::-1]
        bars = made.add_subplot(2, 1, 2)
        bars.barh(rows, [100 * p for _, p in found.answers], color=COLOURS[0])
        bars.set_yticks(rows, [name for name, _ in found.answers], fontsize=SMALL)
        bars.set_xlabel("probability (%)")
        return {"answer": made, **({"causes": _causes(found)} if found.causes else {})}


def explain_image(run: OpenedRun, path: str | Path, *, draw: bool = True) -> Explained:
    """Ask a run why it names a picture as it does.

    Args:
        run: opened.
        path: of the picture.
        draw: make pictures, if matplotlib is there.
    Raises: FileNotFoundError or ValueError with a sentence for a file that is not there or no picture.
    """
    kind = ImageExplanation(Path(path).expanduser())
    found = kind.explain(run)
    return Explained(kind, found, pictures=drawn(kind, found) if draw else {})


def _causes(found: Prediction) -> Figure:
    made, (axes,) = figure(height=1.4 + 0.3 * len(found.causes))
    rows = list(range(len(found.causes)))[::-1]
    for i, (name, _) in enumerate(found.answers):
        shown = {**look(i), "linestyle": "", "markersize": 6}
        axes.plot([added[i] for added in found.causes.values()], rows, label=name, **shown)
    axes.set_yticks(rows, list(found.causes), fontsize=SMALL)
    axes.set_xlabel("added to the logit")
    legend(axes)
    return made
