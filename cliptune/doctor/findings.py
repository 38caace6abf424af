"""What the doctor found: sentences with counts and examples, the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cliptune.noted import few

ERROR, WARNING, HINT = "error", "warning", "hint"
SEVERITIES = (ERROR, WARNING, HINT)
"""Error: training stops at it, or its numbers are wrong. Warning: something is lost, or counts more than it should.
Hint: worth a look."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        kind: its name, such as "leak"; the same in every version.
        severity: one of `SEVERITIES`.
        text: what it is and what to do, a sentence or two, without the examples.
        cases: all of them, a line each; never none.
    """

    kind: str
    severity: str
    text: str
    cases: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.cases)

    def told(self, most: int = 3) -> str:
        """The sentences with the first cases."""
        cases = "case" if self.count == 1 else "cases"
        return f"{self.text} {self.count:,} {cases}: {few(self.cases, most)}."


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found.

    Args:
        name: of the data set. root: folder of the files.
        images: split → number of pictures.
        classes: class name → split → number of pictures.
        findings: the gravest first, of equals the more frequent.
        looked: what was looked at, and what was not and why, a sentence each.
    """

    name: str
    root: str | None
    images: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...] = ()
    looked: tuple[str, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """No error and no warning; there may be hints."""
        return all(finding.severity == HINT for finding in self.findings)

    def of(self, kind: str) -> Finding | None:
        """The finding of a kind, if there is one."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        findings = [{**asdict(finding), "count": finding.count} for finding in self.findings]
        return {**asdict(self), "findings": findings, "healthy": self.healthy}


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, of equals the more frequent."""
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count)))
