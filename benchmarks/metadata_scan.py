"""The cost of a metadata scan, as ratios in one run.

    python benchmarks/metadata_scan.py [--rounds N] [--files N]

The unit is the wall time of an interpreter that imports typer and rich. Measured are `loraudit scan FILE
--depth metadata` for a kohya file of 264 modules and 151 MB, and the smallest Typer program that takes one
path. Then come `--depth weights` of the same file, the peak memory of both, and files a second for a folder
in one process. The files are made in a temporary folder, with random weights.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loraudit.audit.request import Request
from loraudit.audit.scan import scan
from loraudit.lora import Factors, write_kohya
from loraudit.lora.layouts.topology import topologies

IMPORTS = "import typer, rich"
SMALLEST = (
    "import typer, rich\nfrom pathlib import Path\napp = typer.Typer()\n"
    "@app.command()\ndef f(x: Path): print(x)\napp(['a'])"
)
PEAK = (
    "import atexit, re, sys; status = '/proc/self/status'; "
    "atexit.register(lambda: sys.stderr.write(re.search(r'VmHWM:\\s*(\\d+)', open(status).read())[1]))"
)
MODULES = ("attn1", "attn2", "ff.", "proj_in", "proj_out", "self_attn", "mlp")
METADATA = {
    "ss_dataset_dirs": '{"10_jane doe person": {"n_repeats": 10, "img_count": 25}}',
    "ss_tag_frequency": json.dumps({"10_jane doe person": {f"tag number {i}": i for i in range(200)}}),
    "ss_output_name": "jane_doe_v3",
    "ss_sd_model_name": "/home/jdoe/models/v1-5-pruned-emaonly.safetensors",
}


def lora(path: Path, names: Sequence[str], rank: int) -> int:
    """Write a kohya file with the modules of SD 1.x whose path holds one of `names`; return their number."""
    rng = np.random.default_rng(0)
    shapes = next(base.shapes for base in topologies() if base.base == "sd15")
    factors = {}
    for site, shape in shapes.items():
        if any(name in site for name in names):
            up = rng.standard_normal((shape[0], rank), dtype=np.float32)
            down = rng.standard_normal((rank, math.prod(shape[1:])), dtype=np.float32)
            factors[site] = Factors(up, down, 1.0)
    write_kohya(factors, path, METADATA)
    return len(factors)


def seconds(arguments: Sequence[str]) -> float:
    """Measure the wall time of a Python process."""
    # Byte code is kept, as an installer leaves it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(  # noqa: S603
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    return time.perf_counter() - start


def megabytes(arguments: Sequence[str]) -> float:
    """Measure the peak memory of `loraudit` with `arguments`, by its own count of VmHWM."""
    code = f"{PEAK}; sys.argv = {['loraudit', *arguments]!r}; from loraudit.cli import main; main()"
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return int(run.stderr.split()[-1]) / 1024


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        lora(path, MODULES, 64)
        command = ["-m", "loraudit", "scan", str(path), "--fail-on", "never", "--depth"]
        commands = {
            "import typer, rich": ["-c", IMPORTS],
            "smallest Typer program": ["-c", SMALLEST],
            "metadata": [*command, "metadata"],
        }
        for arguments in commands.values():
            seconds(arguments)
        # In turns, since the machine may be shared: a ratio is of neighbours in time.
        turns = [
            {name: seconds(arguments) for name, arguments in commands.items()} for _ in range(options.rounds)
        ]
        for name in commands:
            wall = statistics.median(turn[name] for turn in turns)
            ratio = statistics.median(turn[name] / turn["import typer, rich"] for turn in turns)
            print(f"{name}: {wall:.3f} s, {ratio:.2f} x the imports")
        print(f"weights, {path.stat().st_size / 1e6:.0f} MB: {seconds([*command, 'weights']):.2f} s")
        for depth in ("metadata", "weights"):
            print(f"{depth}: {megabytes([*command[2:], depth]):.0f} MB of memory at most")
        for names in (MODULES, ("attn2.to_k", "attn2.to_v")):
            first = Path(folder) / str(len(names)) / f"{len(names)}-0.safetensors"
            first.parent.mkdir()
            modules = lora(first, names, 1)
            for number in range(1, options.files):
                os.link(first, first.with_name(f"{len(names)}-{number}.safetensors"))
            start = time.perf_counter()
            scan([str(first.parent)], Request(depth="metadata"))
            rate = options.files / (time.perf_counter() - start)
            print(f"{modules} modules: {rate:.0f} files a second in one process")


if __name__ == "__main__":
    main()
