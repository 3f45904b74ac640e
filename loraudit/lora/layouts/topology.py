"""Modules of a base that a LoRA can adapt, and their weight shapes, worked out from the base's config alone.

The names and shapes are those of diffusers' `UNet2DConditionModel` and of transformers' `CLIPTextModel`
(without `text_model.`): every Linear and every convolution. A module's weight is `(out, in)` or `(out, in, k,
k)`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from loraudit.cards import base_card, base_names
from loraudit.errors import LorauditError
from loraudit.lora.matrices import Site

__all__ = ["COMPONENTS", "TextShape", "Topology", "UNetShape", "topologies"]


COMPONENTS: Final = ("unet", "text_encoder")
"""Parts of a base that a LoRA adapts; each site starts with one of them."""


@dataclass(frozen=True)
class UNetShape:
    """Settings that decide the module names and shapes of a `UNet2DConditionModel`. Defaults: SD 1.x."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    """Field `block_out_channels`."""
    layers: int = 2
    """Field `layers_per_block`; an up block has one layer more."""
    down_attention: tuple[bool, ...] = (True, True, True, False)
    """Presence of cross-attention in each down block."""
    up_attention: tuple[bool, ...] = (False, True, True, True)
    """Presence of cross-attention in each up block."""
    cross_width: int = 768
    """Field `cross_attention_dim`, the width of the text encoder."""
    in_channels: int = 4
    out_channels: int = 4

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "UNetShape":
        """Take the settings from a parsed `unet/config.json`."""
        return cls(
            channels=tuple(config["block_out_channels"]),
            layers=config["layers_per_block"],
            down_attention=tuple("CrossAttn" in kind for kind in config["down_block_types"]),
            up_attention=tuple("CrossAttn" in kind for kind in config["up_block_types"]),
            cross_width=config["cross_attention_dim"],
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
        )

    def modules(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each adaptable module: its dotted path and the shape of its weight."""
        first, last = self.channels[0], self.channels[-1]
        yield "conv_in", (first, self.in_channels, 3, 3)
        yield "time_embedding.linear_1", (4 * first, first)
        yield "time_embedding.linear_2", (4 * first, 4 * first)
        yield from self._down()
        yield from self._resnet("mid_block.resnets.0", last, last)
        yield from self._transformer("mid_block.attentions.0", last)
        yield from self._resnet("mid_block.resnets.1", last, last)
        yield from self._up()
        yield "conv_out", (self.out_channels, first, 3, 3)

    def _down(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        inputs = self.channels[0]
        for block, (width, attends) in enumerate(zip(self.channels, self.down_attention, strict=True)):
            path = f"down_blocks.{block}"
            for layer in range(self.layers):
                yield from self._resnet(f"{path}.resnets.{layer}", width, inputs if layer == 0 else width)
                if attends:
                    yield from self._transformer(f"{path}.attentions.{layer}", width)
            if block < len(self.channels) - 1:
                yield f"{path}.downsamplers.0.conv", (width, width, 3, 3)
            inputs = width

    def _up(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        widths = self.channels[::-1]
        below = widths[0]
        for block, (width, attends) in enumerate(zip(widths, self.up_attention, strict=True)):
            path = f"up_blocks.{block}"
            # The last layer meets the skip connection of the next finer level.
            finer = widths[min(block + 1, len(widths) - 1)]
            for layer in range(self.layers + 1):
                skip = finer if layer == self.layers else width
                yield from self._resnet(
                    f"{path}.resnets.{layer}", width, skip + (below if layer == 0 else width)
                )
                if attends:
                    yield from self._transformer(f"{path}.attentions.{layer}", width)
            if block < len(widths) - 1:
                yield f"{path}.upsamplers.0.conv", (width, width, 3, 3)
            below = width

    def _resnet(self, path: str, width: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{path}.conv1", (width, inputs, 3, 3)
        yield f"{path}.time_emb_proj", (width, 4 * self.channels[0])
        yield f"{path}.conv2", (width, width, 3, 3)
        if inputs != width:
            yield f"{path}.conv_shortcut", (width, inputs, 1, 1)

    def _transformer(self, path: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        block = f"{path}.transformer_blocks.0"
        yield f"{path}.proj_in", (width, width, 1, 1)
        for attention, source in (("attn1", width), ("attn2", self.cross_width)):
            yield f"{block}.{attention}.to_q", (width, width)
            yield f"{block}.{attention}.to_k", (width, source)
            yield f"{block}.{attention}.to_v", (width, source)
            yield f"{block}.{attention}.to_out.0", (width, width)
        yield f"{block}.ff.net.0.proj", (8 * width, width)
        yield f"{block}.ff.net.2", (width, 4 * width)
        yield f"{path}.proj_out", (width, width, 1, 1)


@dataclass(frozen=True)
class TextShape:
    """Settings that decide the module names and shapes of a `CLIPTextModel`. Defaults: CLIP ViT-L/14."""

    width: int = 768
    """Field `hidden_size`."""
    inner: int = 3072
    """Field `intermediate_size`."""
    layers: int = 12
    """Field `num_hidden_layers`."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TextShape":
        """Take the settings from a parsed `text_encoder/config.json`."""
        return cls(config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"])

    def modules(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each adaptable module: its dotted path without `text_model.` and the shape of its weight."""
        for layer in range(self.layers):
            path = f"encoder.layers.{layer}"
            for leaf in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield f"{path}.self_attn.{leaf}", (self.width, self.width)
            yield f"{path}.mlp.fc1", (self.inner, self.width)
            yield f"{path}.mlp.fc2", (self.width, self.inner)


@dataclass(frozen=True)
class Topology:
    """Adaptable modules of one base."""

    base: str
    family: str
    """Family in words, like `LoRA.family`."""
    cross_width: int
    """Width of the text embedding that the UNet attends to."""
    text_width: int
    shapes: Mapping[Site, tuple[int, ...]]
    """Weight shape of every adaptable module."""

    @classmethod
    def of(cls, base: str, family: str, unet: UNetShape, text: TextShape) -> "Topology":
        """Collect the modules of a UNet and a text encoder under their site names."""
        shapes = {f"unet.{path}": shape for path, shape in unet.modules()}
        shapes |= {f"text_encoder.{path}": shape for path, shape in text.modules()}
        return cls(base, family, unet.cross_width, text.width, shapes)

    def fits(self, site: Site, outputs: int, inputs: int) -> bool:
        """Tell whether an update `[outputs, inputs]` (a convolution flattened) has the size of `site`."""
        shape = self.shapes.get(site)
        return shape is not None and (shape[0], math.prod(shape[1:])) == (outputs, inputs)


SD1_FAMILY: Final = "SD 1.x"
SD1_BASE: Final = "sd15"
"""Base of a LoRA for SD 1.x unless another is asked for: nearly all were made on 1.5 or on a mix of it."""


@cache
def topologies() -> tuple[Topology, ...]:
    """List the bases that a LoRA is recognised for: SD 1.x (as `sd15`) and those that ship in `models/`."""
    found = [Topology.of(SD1_BASE, SD1_FAMILY, UNetShape(), TextShape())]
    for name in base_names():
        folder = base_card(name).folder
        if folder is not None and (folder / "unet" / "config.json").is_file():
            unet = UNetShape.from_config(_config(folder / "unet"))
            found.append(
                Topology.of(name, name, unet, TextShape.from_config(_config(folder / "text_encoder")))
            )
    return tuple(found)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise LorauditError(
            f"cannot read {folder.parent.name}/{folder.name}/config.json", "install loraudit again"
        ) from None
    return config
