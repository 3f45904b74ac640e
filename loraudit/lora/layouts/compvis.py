"""Names that CompVis's original code gives the modules of the UNet, enumerated.

ComfyUI, OneTrainer and several extraction tools write these names: `input_blocks.1.1` is diffusers'
`down_blocks.0.attentions.0`. Below a transformer block both name alike. (CompVis/stable-diffusion
`ldm/modules/diffusionmodules/openaimodel.py`; the numbering as in LyCORIS `utils/__init__.py`)
"""

from collections.abc import Iterator, Mapping
from typing import Final

from loraudit.lora.layouts.topology import UNetShape

__all__ = ["compvis_paths"]

_ENDS: Final = (
    ("conv_in", "input_blocks.0.0"),
    ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
)
_RESNET: Final = (
    ("conv1", "in_layers.2"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)


def compvis_paths(unet: UNetShape) -> Mapping[str, str]:
    """Map CompVis's dotted path of each adaptable module to the diffusers path."""
    owners = dict(_owners(unet))
    paths: dict[str, str] = {}
    for path, _ in unet.modules():
        owner = max((owner for owner in owners if f"{path}.".startswith(f"{owner}.")), key=len)
        for name in owners[owner]:
            paths[name + path.removeprefix(owner)] = path
    return paths


def _owners(unet: UNetShape) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each part of the UNet whose insides both name alike: its diffusers path and its CompVis paths."""
    for path, name in _ENDS:
        yield path, (name,)
    step, last = unet.layers + 1, len(unet.channels) - 1
    for block, attends in enumerate(unet.down_attention):
        for layer in range(unet.layers):
            name = f"input_blocks.{1 + step * block + layer}"
            yield from _layer(f"down_blocks.{block}", layer, name, attends)
        if block < last:
            yield f"down_blocks.{block}.downsamplers.0.conv", (f"input_blocks.{step * (block + 1)}.0.op",)
    for layer, index in enumerate((0, 2)):
        yield from _resnet(f"mid_block.resnets.{layer}", f"middle_block.{index}")
    yield "mid_block.attentions.0", ("middle_block.1",)
    for block, attends in enumerate(unet.up_attention):
        for layer in range(step):
            yield from _layer(f"up_blocks.{block}", layer, f"output_blocks.{step * block + layer}", attends)
        if block < last:
            name = f"output_blocks.{step * block + unet.layers}"
            # Without attention the upsampler is number 1; LyCORIS writes 2 there as well.
            numbers = (2,) if attends else (1, 2)
            yield f"up_blocks.{block}.upsamplers.0.conv", tuple(f"{name}.{at}.conv" for at in numbers)


def _layer(block: str, layer: int, name: str, attends: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from _resnet(f"{block}.resnets.{layer}", f"{name}.0")
    if attends:
        yield f"{block}.attentions.{layer}", (f"{name}.1",)


def _resnet(path: str, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for ours, theirs in _RESNET:
        yield f"{path}.{ours}", (f"{name}.{theirs}",)
