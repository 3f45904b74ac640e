"""The speed of the paper's encoder with equal stacks in one grouped convolution, against one by one.

    python benchmarks/encoder_grouped.py [--base tiny|sd14] [--rank R] [--loras M ...] [--rounds N]
        [--threads N]

A line gives medians and their ratio for three parts: the stacks (`PaperEncoder.read`), the whole encoder
with its frozen transformer and heads, and the stacks forward and backward. Weights are random, since time
does not depend on weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from loraudit.encoder import PaperEncoder, PaperEncoderConfig, frozen_transformer
from loraudit.lora.layouts.topology import UNetShape

UNETS = {
    "tiny": UNetShape((64, 96, 128), 1, (True, True, False), (False, True, True), cross_width=128),
    "sd14": UNetShape(),
}
TEXTS = {
    "tiny": (
        56,
        CLIPTextConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4),
    ),
    "sd14": (
        77,
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12),
    ),
}
"""Base -> length `L` and configuration of the text encoder."""


def build(base: str, rank: int) -> PaperEncoder:
    """Start the paper's encoder over all to_q and to_v of `base`."""
    length, config = TEXTS[base]
    frozen = frozen_transformer(CLIPTextModel(config))
    sites = tuple(
        (f"unet.{path}", *shape) for path, shape in UNETS[base].modules() if path.endswith(("to_q", "to_v"))
    )
    return PaperEncoder(PaperEncoderConfig(sites, rank, length, frozen.shape, True, 1000), frozen)


def medians(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Measure the median seconds of each run, in turns so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, seconds in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if turn > 0:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def compare(base: str, rank: int, count: int, rounds: int) -> None:
    """Time both forms on `count` LoRAs and print one line."""
    encoder = build(base, rank)
    alone = encoder.one_by_one()
    matrices = {
        site: (torch.randn(count, out, rank) * 0.01, torch.randn(count, rank, in_))
        for site, out, in_ in encoder.config.sites
    }

    def one_by_one() -> torch.Tensor:
        signals = encoder.signals(matrices)
        return torch.stack([stack(signal) for stack, signal in zip(alone, signals, strict=True)], dim=1)

    def grouped() -> torch.Tensor:
        return encoder.read(matrices)

    def train(read: Callable[[], torch.Tensor]) -> None:
        read().square().mean().backward()
        for parameter in [*encoder.parameters(), *(p for stack in alone for p in stack.parameters())]:
            parameter.grad = None

    def whole(read: Callable[[], torch.Tensor]) -> None:
        encoder.embed(read())

    with torch.no_grad():
        difference = (one_by_one() - grouped()).abs().max().item()
        assert difference < 1e-5
        stacks = medians(rounds, one_by_one, grouped)
        everything = medians(rounds, lambda: whole(one_by_one), lambda: whole(grouped))
    training = medians(rounds, lambda: train(one_by_one), lambda: train(grouped))
    parts = [
        f"{name} {slow * 1e3:.1f} -> {fast * 1e3:.1f} ms ({slow / fast:.2f}x)"
        for name, (slow, fast) in {
            "stacks": stacks,
            "whole encoder": everything,
            "stacks forward and backward": training,
        }.items()
    ]
    print(f"{base}, rank {rank}, {count} LoRAs: {', '.join(parts)}; differ by {difference:.0e}", flush=True)


def main() -> None:
    """Parse the arguments and compare both forms on each number of LoRAs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", choices=list(UNETS), default="tiny")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--loras", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(f"{options.threads} CPU threads, torch {torch.__version__}; one by one -> grouped")
    for count in options.loras:
        compare(options.base, options.rank, count, options.rounds)


if __name__ == "__main__":
    main()
