"""What a scan of the metadata costs, as ratios in one run.

    python benchmarks/metadata_scan.py [--rounds N] [--files N]

Wall time of `loraudit scan FILE --depth metadata`, for a kohya file of 264 modules and 151 MB, over that of
an interpreter that imports typer and rich, and over that of the smallest Typer program that takes one path:
what any command line made with Typer costs. Then `--depth weights` of the same file, and files a second for
many files in one process. The files are made in a temporary folder; their weights are random.
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

from loraudit.lora import Factors, write_kohya
from loraudit.lora.topology import topologies
from loraudit.request import Request
from loraudit.scan import scan

IMPORTS = "import typer, rich"
SMALLEST = (
    "import typer, rich\nfrom pathlib import Path\napp = typer.Typer()\n"
    "@app.command()\ndef f(x: Path): print(x)\napp(['a'])"
)
MODULES = ("attn1", "attn2", "ff.", "proj_in", "proj_out", "self_attn", "mlp")
METADATA = {
    "ss_dataset_dirs": '{"10_jane doe person": {"n_repeats": 10, "img_count": 25}}',
    "ss_tag_frequency": json.dumps({"10_jane doe person": {f"tag number {i}": i for i in range(200)}}),
    "ss_output_name": "jane_doe_v3",
    "ss_sd_model_name": "/home/jdoe/models/v1-5-pruned-emaonly.safetensors",
}


def lora(path: Path, names: Sequence[str], rank: int) -> int:
    """A kohya file with the modules of SD 1.x whose path holds one of `names`, and how many they are."""
    rng = np.random.default_rng(0)
    shapes = next(base.shapes for base in topologies() if base.base == "sd14")
    factors = {}
    for site, shape in shapes.items():
        if any(name in site for name in names):
            up = rng.standard_normal((shape[0], rank), dtype=np.float32)
            down = rng.standard_normal((rank, math.prod(shape[1:])), dtype=np.float32)
            factors[site] = Factors(up, down, 1.0)
    write_kohya(factors, path, METADATA)
    return len(factors)


def seconds(arguments: Sequence[str], rounds: int) -> float:
    """Median wall time of a Python process, after one for the file cache."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        lora(path, MODULES, 64)
        command = ["-m", "loraudit", "scan", str(path), "--fail-on", "never", "--depth"]
        imports, smallest = (
            seconds(["-c", IMPORTS], options.rounds),
            seconds(["-c", SMALLEST], options.rounds),
        )
        words = seconds([*command, "metadata"], options.rounds)
        weights = seconds([*command, "weights"], 1)
        size = path.stat().st_size / 1e6
        print(f"import typer, rich {imports:.3f} s   smallest Typer program {smallest:.3f} s")
        print(f"metadata, {size:.0f} MB: {words:.3f} s, {words / imports:.1f} x and {words / smallest:.1f} x")
        print(f"weights, {size:.0f} MB: {weights:.2f} s")
        for names in (MODULES, ("attn2.to_k", "attn2.to_v")):
            first = Path(folder) / f"{len(names)}-0.safetensors"
            modules = lora(first, names, 1)
            files = [str(first)]
            for number in range(1, options.files):
                files.append(str(first.with_name(f"{len(names)}-{number}.safetensors")))
                os.link(first, files[-1])
            start = time.perf_counter()
            scan(files, Request(depth="metadata"))
            rate = options.files / (time.perf_counter() - start)
            print(f"{modules} modules: {rate:.0f} files a second in one process")


if __name__ == "__main__":
    main()
