"""Small SD 1.x LoRAs, one in each layout and of each kind, with their true updates.

The matrices are random, and the updates follow from the definitions of LyCORIS, apart from the readers.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from benchmarks.tables import layouts
from benchmarks.tables.layouts import Tensors
from loraudit.lora import Factors, Site
from loraudit.lora.layouts.topology import topologies

__all__ = ["Case", "cases", "cloneofsimo", "walk"]

TRANSFORMER: Final = "unet.down_blocks.0.attentions.0"
ATTENTION: Final = tuple(
    f"{TRANSFORMER}.transformer_blocks.0.{leaf}"
    for leaf in ("attn1.to_q", "attn1.to_v", "attn2.to_k", "attn2.to_out.0")
)
OTHERS: Final = (
    f"{TRANSFORMER}.proj_in",
    f"{TRANSFORMER}.transformer_blocks.0.ff.net.2",
    "unet.down_blocks.0.resnets.0.conv1",
)
"""A convolution of each kernel and a feed-forward layer."""
TEXT: Final = tuple(
    f"text_encoder.encoder.layers.0.{leaf}"
    for leaf in ("self_attn.q_proj", "self_attn.v_proj", "self_attn.k_proj", "self_attn.out_proj", "mlp.fc1")
)
QUERY, KERNEL = ATTENTION[0], OTHERS[2]
RANK: Final = 3
_TEXT_LAYOUTS: Final = ("K1 flat text tower", "K2")
"""Layouts that differ from K1 in the text tower's names only."""


@dataclass(frozen=True, eq=False)
class Case:
    """LoRA file with its true update."""

    name: str
    tensors: Tensors
    updates: Mapping[Site, Factors]
    """True update of every module's weight."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[Site, np.ndarray] = field(default_factory=dict)
    """Weights of the base, where the update depends on the base."""


def cases() -> Iterator[Case]:
    """Yield every layout of `layouts.LAYOUTS`, cloneofsimo's, and each kind of matrices in kohya's names."""
    rng = np.random.default_rng(0)
    attention, text = _factors(rng, ATTENTION), _factors(rng, TEXT)
    for layout in layouts.LAYOUTS:
        updates = attention | text if layout in _TEXT_LAYOUTS else attention
        alphas = dict.fromkeys(updates, 1.5) if layout in layouts.WITH_ALPHA else None
        yield Case(layout, layouts.write(layout, updates, alphas), updates)
    for layout in ("D1", "K1"):
        tensors = layouts.write(layout, attention | text)
        yield Case(f"{layout} with the text tower", tensors, attention | text)
    everything = attention | _factors(rng, OTHERS)
    same = dict.fromkeys(everything, 1.5)
    yield Case("K3: K1 with convolutions, as LCM-LoRA", layouts.write("K1", everything, same), everything)
    both = everything | text
    yield Case("LoCon, with the text tower", layouts.write("K1", both, dict.fromkeys(both, 1.5)), both)
    mixed = same | dict.fromkeys((QUERY, ATTENTION[1]), 8.0)
    yield Case("K1, attention of mixed alphas", layouts.write("K1", everything, mixed), everything)
    bundled = layouts.write("K1", attention) | {"bundle_emb.ada.clip_l": np.ones((1, 768), np.float32)}
    yield Case("K1 with a bundled embedding", bundled, attention)
    order = walk(("Attention", "GEGLU"))
    counted = _factors(rng, order, 1)
    kinds = {"unet": json.dumps(["CrossAttention", "Attention", "GEGLU"])}
    yield Case("O1", cloneofsimo(counted, order, "unet"), counted, kinds)
    yield _tucker(rng)
    yield _loha(rng)
    yield _lokr(rng)
    yield _dora(rng, attention)


def cloneofsimo(factors: Mapping[Site, Factors], order: Sequence[Site], component: str) -> Tensors:
    """Return the tensors of `factors` in layout O1, counted in `order`."""
    tensors: Tensors = {}
    for at, site in enumerate(order):
        up, down = layouts.kernel(site, factors[site])
        tensors |= {f"{component}:{at}:up": up, f"{component}:{at}:down": down}
    return tensors


def walk(kinds: Sequence[str]) -> list[Site]:
    """List the sites in modules of the classes `kinds`, in the order of cloneofsimo's own search."""
    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768)
    found = []
    for name, module in network.named_modules():
        if type(module).__name__ in kinds:
            for inner, layer in module.named_modules():
                if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                    found.append(f"unet.{name}.{inner}")
    return found


def _tucker(rng: np.random.Generator) -> Case:
    up, core, down = _draw(rng, (320, 2)), _draw(rng, (2, RANK, 3, 3)), _draw(rng, (RANK, 320))
    start = layouts.k1(KERNEL)[0]
    tensors = {
        f"{start}lora_up.weight": up[:, :, None, None],
        f"{start}lora_mid.weight": core,
        f"{start}lora_down.weight": down[:, :, None, None],
    }
    return Case("Tucker core", tensors, {KERNEL: _whole(np.einsum("om,mnkl,ni->oikl", up, core, down))})


def _loha(rng: np.random.Generator) -> Case:
    matrices = {name: _draw(rng, (320, RANK)) for name in ("hada_w1_a", "hada_w2_a")}
    matrices |= {name: _draw(rng, (RANK, 320)) for name in ("hada_w1_b", "hada_w2_b")}
    start = layouts.k1(QUERY)[0]
    first = matrices["hada_w1_a"] @ matrices["hada_w1_b"]
    update = first * (matrices["hada_w2_a"] @ matrices["hada_w2_b"])
    tensors = {start + name: value for name, value in matrices.items()}
    return Case("LoHa", tensors, {QUERY: _whole(update)})


def _lokr(rng: np.random.Generator) -> Case:
    left, up, down = _draw(rng, (16, 16)), _draw(rng, (20, RANK)), _draw(rng, (RANK, 20))
    start = layouts.k1(QUERY)[0]
    tensors = {f"{start}lokr_w1": left, f"{start}lokr_w2_a": up, f"{start}lokr_w2_b": down}
    return Case("LoKr", tensors, {QUERY: _whole(np.kron(left, up @ down))})


def _dora(rng: np.random.Generator, directions: Mapping[Site, Factors]) -> Case:
    tensors = layouts.write("K1", directions)
    weights, updates = {}, {}
    for site, own in directions.items():
        W, m = _draw(rng, own.shape), rng.uniform(0.5, 2, (own.shape[0], 1)).astype(np.float32)
        moved = W + own.delta()
        tensors[f"{layouts.k1(site)[0]}dora_scale"] = m
        weights[site] = W
        updates[site] = _whole(m * moved / np.linalg.norm(moved, axis=1, keepdims=True) - W)
    return Case("DoRA, beside the base", tensors, updates, weights=weights)


def _factors(rng: np.random.Generator, sites: Sequence[Site], rank: int = RANK) -> dict[Site, Factors]:
    shapes = next(topology.shapes for topology in topologies() if topology.base == "sd15")
    return {
        site: Factors(
            _draw(rng, (shapes[site][0], rank)), _draw(rng, (rank, math.prod(shapes[site][1:]))), 1.0
        )
        for site in sites
    }


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _whole(update: np.ndarray) -> Factors:
    matrix = update.reshape(len(update), -1).astype(np.float32)
    return Factors(np.eye(len(matrix), dtype=np.float32), matrix, 1.0)
