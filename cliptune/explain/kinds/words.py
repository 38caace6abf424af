"""`words`: which words the learned text tokens are near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliptune.analysis.finding import Finding
from cliptune.analysis.words import METRICS, Metric, Words, nearest_words
from cliptune.explain.figures import COLOURS, INK, SMALL, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 12


@dataclass(frozen=True)
class PromptWords(Finding):
    """Nearest words of a run's text tokens.

    Args:
        entries: metric → nearest entries of the vocabulary, whatever they are.
        whole_words: metric → nearest whole words.
    """

    entries: Mapping[Metric, Words]
    whole_words: Mapping[Metric, Words]

    def sentence(self) -> str:
        return self.entries["euclidean"].sentence()


class WordsExplanation(Explanation[PromptWords]):
    name = "words"
    title = "Which words the learned text tokens are near"
    source = "arXiv:2109.01134, table of nearest words"
    place = 20

    def why_not(self, run: OpenedRun) -> str | None:
        if run.adapter.prompt(seen=run.adapter.seen).text.tokens:
            return None
        return "No learned tokens enter the texts, so there is nothing that words could be near."

    def explain(self, run: OpenedRun) -> PromptWords:
        entries, whole = (
            {metric: nearest_words(run.adapter, metric=metric, whole_words=only) for metric in METRICS}
            for only in (False, True)
        )
        return PromptWords(entries, whole)

    def draw(self, found: PromptWords) -> Mapping[str, Figure]:
        words = found.whole_words["euclidean"]
        tokens = [token for token in words.tokens if token.in_vocabulary_space][:_SHOWN]
        made, (axes,) = figure(height=1.2 + 0.4 * len(tokens))
        for row, token in enumerate(tokens):
            axes.plot(token.distances, [row] * len(token.words), "o", color=COLOURS[0], markersize=4)
        axes.axvline(words.between_words, color=INK, linestyle="--", label="between words (median)")
        names = [
            f"{_name(token.class_name, token.position, token.mixture)}\n{', '.join(token.words[:3])}"
            for token in tokens
        ]
        axes.set_yticks(range(len(tokens)), names, fontsize=SMALL)
        axes.set_ylim(len(tokens) - 0.4, -0.8)
        axes.set_xlabel("euclidean distance to the nearest whole words")
        axes.set_xlim(left=0)
        legend(axes)
        return {"distances": made}


def _name(class_name: str | None, position: int, mixture: float | None) -> str:
    said = f"token {position + 1}" if class_name is None else f"{class_name}, {position + 1}"
    return said if mixture is None else f"{said} (ω = {mixture:g})"
