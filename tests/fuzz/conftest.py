"""The table of a run by hand."""

from __future__ import annotations

from typing import Any

from tests.fuzz.campaign import CASES, SEED, USUAL, campaigns


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if CASES <= USUAL or not campaigns:
        return
    terminalreporter.write_line(f"Campaigns of {CASES:,} cases, seed {SEED}:")
    for line in ("| reader | cases | answers | sentences | defects |", "|---|---:|---:|---:|---:|"):
        terminalreporter.write_line(line)
    for c in campaigns:
        row = f"| {c.reader} | {c.cases:,} | {c.answers:,} | {c.sentences:,} | {len(c.defects)} |"
        terminalreporter.write_line(row)
