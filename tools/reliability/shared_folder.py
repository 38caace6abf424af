"""Several processes on one run folder, and on one cache of weights.

    python -m tools.reliability.shared_folder --rounds 10

Each round: two processes are asked for the same run at the same moment; one is killed while it holds the folder and its
images are read by processes of its own, and the same run is asked for at once; four processes score a finished run at
the same moment; eight processes fetch one file from a server that drops connections, one of them killed on the way.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import torch

import cliptune
from cliptune.clip.weights.download import fetch
from cliptune.protocols.scoring import score_run
from cliptune.runs import read_result
from tools.reliability.small_runs import SPEC, contents, small_run

TAKEN = "Another process is working in the run folder"
LONG = replace(SPEC, options={**SPEC.options, "epochs": 12}, training={"device": "cpu"})
_PATIENCE = 120
_PRECISIONS = ("fp32", "bf16", "fp16")


def two_at_once(place: Path, rounds: int) -> dict[str, int]:
    """The same run, asked for by two processes at one moment: who comes second gets the sentence, or finds it done.

    Afterwards the folder is that of a run made alone.
    """
    small_run(place / "alone", LONG)
    expected, refused = contents(place / "alone"), 0
    for i in range(rounds):
        out = place / f"shared-{i}"
        told = answers([_started(_run, out, place / f"told-{i}-{who}") for who in "ab"])
        assert "" in told, f"round {i}: neither of two processes ended: {told}"
        assert all(text == "" or TAKEN in text for text in told), f"round {i}: {told}"
        refused += sum(TAKEN in text for text in told)
        assert contents(out) == expected, f"round {i}: the folder differs from that of one process alone"
    return {"rounds": rounds, "refused with the sentence": refused}


def killed_with_helpers(place: Path, rounds: int) -> dict[str, int]:
    """A run killed while other processes read its images: the same run can be asked for at once."""
    small_run(place / "whole", LONG)
    expected = contents(place / "whole")
    for i in range(rounds):
        out = place / f"killed-{i}"
        process, _ = _started(_run, out, place / f"told-{i}", workers=2)
        metrics = out / "metrics.jsonl"
        _wait(lambda metrics=metrics: metrics.exists() and metrics.stat().st_size > 0, process)
        process.kill()
        process.join()
        assert read_result(out) is None, f"round {i}: the run was over before it was killed"
        small_run(out, LONG)
        assert contents(out) == expected, f"round {i}: the folder differs from that of an undisturbed run"
    return {"killed": rounds}


def scored_at_once(place: Path, rounds: int) -> dict[str, int]:
    """A finished run, scored by processes in three precisions at the same moment: its result holds all numbers."""
    for i in range(rounds):
        out = place / f"scored-{i}"
        small_run(out)
        told = answers([_started(_score, out, place / f"told-{i}-{kind}", kind) for kind in _PRECISIONS])
        assert told == [""] * len(_PRECISIONS), f"round {i}: {told}"
        entered = set((read_result(out) or {})["evaluations"])
        assert entered == {"test", "test (bf16)", "test (fp16)"}, f"round {i}: the result holds {sorted(entered)}"
    return {"rounds": rounds, "numbers kept": 3 * rounds}


def eight_writers(place: Path, rounds: int, size: int = 5_000_000) -> dict[str, int]:
    """One file, fetched into one cache by eight processes, one of which is killed: the others get the whole file."""
    content = Random(7).randbytes(size)
    checksum, whole = hashlib.sha256(content).hexdigest(), 0
    with served(content) as server:
        for i in range(rounds):
            server.drops = 2
            target = place / f"cache-{i}" / "weights.pt"
            writers = [_started(_fetch, server.url, place / f"told-{i}-{who}", target, checksum) for who in range(8)]
            part = target.with_name("weights.pt.part")
            _wait(lambda part=part: part.exists(), writers[0][0])
            writers[0][0].kill()
            told = answers(writers[1:])
            assert told == [""] * 7, f"round {i}: {told}"
            assert hashlib.sha256(target.read_bytes()).hexdigest() == checksum, f"round {i}: the file is not whole"
            assert not part.exists(), f"round {i}: an unfinished file is left"
            whole += len(told)
        asked = server.asked
    return {"rounds": rounds, "whole files": whole, "requests": asked}


class Server(http.server.ThreadingHTTPServer):
    """Serves its content, also from a byte on; drops the first `drops` connections half way."""

    content = b""
    drops = 0
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pt"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        wanted = self.headers.get("Range")
        body = self.server.content[int(wanted[6:-1]) if wanted else 0 :]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drops:
            self.server.drops -= 1
            body = body[: len(body) // 2]
        with suppress(OSError):  # who asked may have been killed
            for start in range(0, len(body), 1 << 18):
                self.wfile.write(body[start : start + (1 << 18)])
                time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        """Keeps the report quiet."""


@contextmanager
def served(content: bytes) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as server:
        server.content = content
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _run(out: Path, told: Path, **how: Any) -> None:
    _tell(told, lambda: small_run(out, LONG, **how))


def _score(out: Path, told: Path, precision: str) -> None:
    _tell(told, lambda: score_run(out, cliptune.load(out), precision=precision))


def _fetch(url: str, told: Path, target: Path, checksum: str) -> None:
    _tell(told, lambda: fetch(url, target, checksum))


def _tell(told: Path, work: Callable[[], object]) -> None:
    """The sentence that work ended with, as a file; empty if all went well."""
    torch.set_num_threads(1)
    try:
        work()
        sentence = ""
    except Exception as error:  # whatever it is, the campaign shows it
        sentence = f"{type(error).__name__}: {error}"
    told.write_text(sentence)


def _started(work: Callable[..., None], first: object, told: Path, *more: Any, **how: Any) -> tuple[BaseProcess, Path]:
    # From a server that has imported everything, so that processes start at the same moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.reliability.small_runs", "cliptune.protocols.scoring"])
    process = context.Process(target=work, args=(first, told, *more), kwargs=how)
    process.start()
    return process, told


def answers(processes: list[tuple[BaseProcess, Path]]) -> list[str]:
    """What each told at its end."""
    for process, _ in processes:
        process.join(_PATIENCE)
        assert process.exitcode == 0, f"a process did not end: exit code {process.exitcode}"
    return [told.read_text() for _, told in processes]


def _wait(done: Callable[[], bool], process: BaseProcess) -> None:
    until = time.monotonic() + _PATIENCE
    while not done() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for campaign in (two_at_once, killed_with_helpers, scored_at_once, eight_writers):
        with tempfile.TemporaryDirectory() as place:
            print(f"{campaign.__name__.replace('_', ' ')}: {campaign(Path(place), args.rounds)}", flush=True)


if __name__ == "__main__":
    main()
