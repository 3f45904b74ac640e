"""Each layout of SD 1.x LoRA files, read here and loaded by stock diffusers.

python -m loraudit.experiments.layout_table
"""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.numpy import save_file

from loraudit.errors import LorauditError
from loraudit.experiments import layouts
from loraudit.lora import Factors, Site, load_lora
from loraudit.lora.topology import topologies

__all__ = ["Outcome", "layout_table", "markdown"]

BLOCK: Final = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
SITES: Final = tuple(
    f"{BLOCK}.{leaf}" for leaf in ("attn1.to_q", "attn1.to_v", "attn2.to_k", "attn2.to_out.0")
)
RIGHT: Final = "right"


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    layout: str
    ours: str
    """`right`, or what went wrong."""
    diffusers: str
    """`right`, or what went wrong."""


def layout_table() -> Iterator[Outcome]:
    """The rows, from one set of random factors of rank 3 over four modules of the UNet's first block."""
    factors = _factors()
    for layout in layouts.LAYOUTS:
        alphas = dict.fromkeys(factors, 1.5) if layout in layouts.WITH_ALPHA else None
        with TemporaryDirectory() as folder:
            path = Path(folder) / "x.safetensors"
            save_file(layouts.write(layout, factors, alphas), path)
            yield Outcome(layout, _judge(_ours, path, factors), _judge(_stock, path, factors))


def markdown(rows: list[Outcome]) -> str:
    """The table, ready for docs."""
    lines = ["| Layout | loraudit | diffusers |", "|---|---|---|"]
    lines += [f"| {row.layout} | {row.ours} | {row.diffusers} |" for row in rows]
    return "\n".join(lines) + f"\n\ndiffusers {version('diffusers')}, peft {version('peft')}."


def _factors() -> dict[Site, Factors]:
    shapes = next(topology.shapes for topology in topologies() if topology.base == "sd14")
    rng = np.random.default_rng(0)
    return {
        site: Factors(
            rng.standard_normal((shapes[site][0], 3), dtype=np.float32),
            rng.standard_normal((3, math.prod(shapes[site][1:])), dtype=np.float32),
            1.0,
        )
        for site in SITES
    }


def _judge(read: Any, path: Path, factors: Mapping[Site, Factors]) -> str:  # noqa: ANN401
    try:
        found = read(path)
    except (LorauditError, ValueError, RuntimeError, KeyError) as error:
        return f"error ({type(error).__name__})"
    if not found:
        return "loads nothing, no error"
    good = sum(
        site in found and np.allclose(found[site], own.delta(), rtol=1e-4, atol=1e-4)
        for site, own in factors.items()
    )
    return (
        RIGHT if good == len(factors) == len(found) else f"wrong update, no error ({good} of {len(factors)})"
    )


def _ours(path: Path) -> dict[Site, np.ndarray]:
    return {site: own.delta() for site, own in load_lora(path).factors.items()}


def _stock(path: Path) -> dict[Site, np.ndarray]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    # peft puts its matrices where the layer's weight is, so the adapted block needs real memory.
    unet.get_submodule("down_blocks.0").to_empty(device="cpu")
    pipeline = StableDiffusionPipeline(
        None, None, None, unet, None, None, None, requires_safety_checker=False
    )
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    found = {}
    for name, layer in unet.named_modules():
        if hasattr(layer, "get_delta_weight"):
            (adapter,) = layer.active_adapters
            delta = layer.get_delta_weight(adapter)
            found[f"unet.{name}"] = np.zeros(1) if delta.is_meta else delta.detach().flatten(1).numpy()
    return found


if __name__ == "__main__":
    sys.stdout.write(markdown(list(layout_table())) + "\n")
