"""What serving costs: pictures per second over HTTP beside the same work offline, on the same core.

    python benchmarks/serve.py                      # towers of ViT-B/32's size
    python benchmarks/serve.py --backbone mini      # where HTTP costs more than the model

Offline, JPEG pictures are decoded, prepared and answered in batches of 32, in one process on one core. Then the server
does the same on that core, asked by many clients at once from another; twice each, in turns. CPU time per picture is
told as well, because it does not depend on who else uses the machine. Weights are random: only time is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

BATCH = 32
SIDE = (640, 480)


def served_model(backbone: str, onnx: bool):
    """A zero-shot adapter with ten classes, or its export."""
    import cliptune
    from cliptune.clip import CLIP
    from cliptune.clip.tokenizer import default_tokenizer
    from cliptune.clip.weights.openai import OPENAI_CONFIGS
    from cliptune.serving import ServedExport, ServedRun

    if backbone == "mini":
        clip = cliptune.load_clip("mini")
    else:
        clip = CLIP.of_sizes(OPENAI_CONFIGS[backbone], default_tokenizer(), backbone)
        draw = torch.Generator().manual_seed(0)
        for name, value in clip.named_parameters():
            scale = 0.02 if value.ndim > 1 else 0.0
            value.data.normal_(generator=draw).mul_(scale)
            if name.endswith("weight") and value.ndim == 1:
                value.data.fill_(1.0)
        clip.logit_scale.data.fill_(4.6)
    adapter = cliptune.build("zeroshot", clip, [f"class {i}" for i in range(10)]).adapter.eval()
    if not onnx:
        return ServedRun(adapter)
    folder = f"/tmp/serve-{os.getpid()}"
    cliptune.export(adapter, folder)
    return ServedExport(cliptune.open_exported(folder))


def jpegs(number: int) -> list[bytes]:
    """Photographs' worth of bytes: smooth noise, so that they compress as pictures do."""
    from PIL import Image

    draw = np.random.default_rng(0)
    made = []
    for _ in range(number):
        small = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        content = io.BytesIO()
        small.resize(SIDE, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
        made.append(content.getvalue())
    return made


def offline(model, contents: list[bytes], pictures: int) -> dict[str, float]:
    from cliptune.serving.pictures import prepared

    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, pictures, BATCH):
        places = range(first, min(first + BATCH, pictures))
        batch = [prepared(contents[i % len(contents)], model.resolution, 10**8, "Picture") for i in places]
        model.answer(np.stack(batch))
    wall = time.perf_counter() - start
    return {"per_second": pictures / wall, "cpu_ms": 1000 * (time.process_time() - cpu) / pictures}


async def ask(reader, writer, content: bytes, kind: str = "image/jpeg") -> tuple[int, bytes]:
    """One request on a connection that stays open."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(answer.split()[1]), await reader.readexactly(length)


async def load(port: int, contents: list[bytes], pictures: int, at_once: int) -> tuple[float, list[float], Counter]:
    """Seconds, seconds of each answer, and how many answers there were of each code (0 for none)."""
    todo, latencies, codes = iter(range(pictures)), [], Counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in todo:
            start = time.perf_counter()
            try:
                code, body = await ask(reader, writer, contents[i % len(contents)])
                assert code != 200 or len(json.loads(body)["results"][0]["predictions"]) == 5
            except (OSError, EOFError):
                code = 0
            codes[code] += 1
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return time.perf_counter() - start, latencies, codes


async def bad(port: int, good: bytes, number: int) -> Counter:
    """Codes of damaged bodies; each on a connection of its own, since a refusal may close it."""
    draw, codes = np.random.default_rng(1), Counter()
    for i in range(number):
        content = bytearray(good[: draw.integers(len(good))])
        content[: 8 * (i % 3)] = draw.bytes(8 * (i % 3))
        kind = ("image/jpeg", "application/json", "multipart/form-data; boundary=b", "text/plain")[i % 4]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        codes[(await ask(reader, writer, bytes(content), kind))[0] // 100] += 1
        writer.close()
    return codes


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="ViT-B/32", help="sizes of one of OpenAI's, or mini")
    parser.add_argument("--onnx", action="store_true", help="serve an ONNX export")
    parser.add_argument("--pictures", type=int, default=320, help="of each turn")
    parser.add_argument("--at-once", type=int, default=64, help="clients of a turn")
    parser.add_argument("--burst", type=int, default=500, help="requests that all come at once, after the turns")
    parser.add_argument("--bad", type=int, default=300, help="damaged bodies")
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {cores[0]})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    model = served_model(arguments.backbone, arguments.onnx)
    if arguments.server:
        from cliptune.serving import Limits
        from cliptune.serving.running import listening, serve

        listener = listening("127.0.0.1", 0)
        print(listener.getsockname()[1], flush=True)
        serve({"model": model}, listener, None, Limits(seconds=3600, batch=BATCH))
        return
    measure(arguments, model, cores)


def measure(arguments: argparse.Namespace, model, cores: list[int]) -> None:
    contents = jpegs(64)
    command = [sys.executable, __file__, "--server", "--backbone", arguments.backbone]
    server = subprocess.Popen(command + ["--onnx"] * arguments.onnx, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    n = arguments.pictures
    try:
        offline(model, contents, BATCH)
        asyncio.run(load(port, contents, BATCH, 8))  # both are warm
        alone, over = [], []
        for _ in range(2):
            os.sched_setaffinity(0, {cores[0]})
            alone.append(offline(model, contents, n))
            os.sched_setaffinity(0, {cores[-1]})
            before = cpu_of(server.pid)
            seconds, latencies, codes = asyncio.run(load(port, contents, n, arguments.at_once))
            used = 1000 * (cpu_of(server.pid) - before) / n
            over.append({"per_second": n / seconds, "cpu_ms": used, "latencies": latencies, "codes": codes})
        seconds, waited, burst = asyncio.run(load(port, contents, arguments.burst, arguments.burst))
        refused = asyncio.run(bad(port, contents[0], arguments.bad))
    finally:
        server.terminate()
        server.wait()
    tell(arguments, alone, over, (seconds, waited, burst), refused)


def tell(arguments: argparse.Namespace, alone: list, over: list, burst: tuple, refused: Counter) -> None:
    rate = [max(one["per_second"] for one in rows) for rows in (alone, over)]
    cpu = [min(one["cpu_ms"] for one in rows) for rows in (alone, over)]
    latencies = [1000 * value for one in over for value in one["latencies"]]
    codes = sum((one["codes"] for one in over), Counter())
    print(f"{arguments.backbone}{', ONNX' if arguments.onnx else ''}, one core, {SIDE[0]} × {SIDE[1]} JPEG")
    print("| | pictures per second | CPU ms per picture |")
    print("|---|---|---|")
    print(f"| offline, batches of {BATCH} | {rate[0]:.1f} | {cpu[0]:.1f} |")
    print(f"| served, {arguments.at_once} clients | {rate[1]:.1f} | {cpu[1]:.1f} |")
    print(f"| served / offline | {rate[1] / rate[0]:.2f} | {cpu[0] / cpu[1]:.2f} |")
    shares = ", ".join(f"p{share} {percentile(latencies, share):.0f} ms" for share in (50, 95, 99))
    print(f"Answer times with {arguments.at_once} clients: {shares}; codes {dict(codes)}.")
    seconds, waited, answered = burst
    print(
        f"{arguments.burst} requests at once: codes {dict(answered)} in {seconds:.1f} s, the last after "
        f"{max(waited):.1f} s."
    )
    print(
        f"{arguments.bad} damaged bodies: " + ", ".join(f"{n} × {code}xx" for code, n in sorted(refused.items())) + "."
    )


if __name__ == "__main__":
    main()
