"""The speed of `canonicalize` against a dense SVD of the products, over a whole LoRA for SD 1.x.

    OMP_NUM_THREADS=1 python benchmarks/canonicalize.py [--rank R]

The LoRA has the 264 modules that kohya-ss/sd-scripts adapts, random weights: at rank 128 in half precision
a file of 151 MB. Every module is canonicalised. The dense SVD, in float64 as well, is timed once for each
shape of module and counted as often as the shape occurs. Seconds are CPU time of the process, so that a
busy machine does not count, and do not depend on the values.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from loraudit.lora import Factors, canonicalize
from loraudit.lora.layouts.topology import topologies

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")


def kohya_shapes() -> list[tuple[int, int]]:
    """List `(out, in)` of the modules that sd-scripts adapts by default: transformers and the text tower."""
    sd1 = next(topology for topology in topologies() if topology.base == "sd15")
    return [
        (shape[0], int(np.prod(shape[1:])))
        for site, shape in sd1.shapes.items()
        if site.startswith("text_encoder.") or ("attentions" in site and site.endswith(ATTENTION))
    ]


def seconds(run: Callable[[], object]) -> float:
    """Measure the CPU time of `run`."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Parse the arguments, time both sides and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, default=128)
    rank = parser.parse_args().rank
    rng = np.random.default_rng(0)
    shapes = kohya_shapes()
    canonical = dense = 0.0
    for (out, inputs), count in sorted(Counter(shapes).items()):
        pairs = [
            Factors(
                rng.standard_normal((out, rank), np.float32),
                rng.standard_normal((rank, inputs), np.float32),
                1.0,
            )
            for _ in range(count)
        ]
        canonical += sum(seconds(lambda pair=pair: canonicalize(pair)) for pair in pairs)
        product = pairs[0].delta().astype(np.float64)
        dense += count * seconds(lambda product=product: np.linalg.svd(product, full_matrices=False))
    megabytes = sum(2 * rank * sum(shape) for shape in shapes) / 1e6
    print(
        f"{len(shapes)} modules, rank {rank}, {megabytes:.0f} MB in half precision: "
        f"canonicalize {canonical:.1f} s, dense SVD {dense:.0f} s (from one module of each of "
        f"{len(set(shapes))} shapes), {dense / canonical:.0f}x"
    )


if __name__ == "__main__":
    main()
