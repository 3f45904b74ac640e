"""A checkpoint in a single file from the parts of a pipeline, under the names of the latent-diffusion code.

diffusers converts such files to its own names; this is the way back, so that files of any size can be made
where none was downloaded. (https://github.com/CompVis/stable-diffusion, `ldm/modules/diffusionmodules`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ldm_tensors", "write_ldm_file"]

_RESNET: Final = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTER: Final = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_ATTENTION: Final = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip


def write_ldm_file(
    path: Path,
    unet: Any,  # noqa: ANN401
    vae: Any,  # noqa: ANN401
    text: Any,  # noqa: ANN401
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the parts to `path` as one safetensors file."""
    save_file({key: value.to(dtype) for key, value in ldm_tensors(unet, vae, text).items()}, path)


def ldm_tensors(unet: Any, vae: Any, text: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Name the weights of a pipeline as the latent-diffusion code does."""
    found = _renamed("model.diffusion_model.", unet, _unet_name)
    for key, value in _renamed("first_stage_model.", vae, _vae_name).items():
        # The code has convolutions of one pixel where diffusers has linear layers.
        kernel = re.search(r"\.attn_1\.(?:q|k|v|proj_out)\.weight$", key)
        found[key] = value[:, :, None, None].contiguous() if kernel else value
    tower = {name.removeprefix("text_model."): value for name, value in text.state_dict().items()}
    return found | {f"cond_stage_model.transformer.text_model.{name}": value for name, value in tower.items()}


def _renamed(start: str, module: Any, name: Callable[[str, Any], str]) -> dict[str, Tensor]:  # noqa: ANN401
    return {start + name(key, module.config): value for key, value in module.state_dict().items()}


def _swap(name: str, words: Mapping[str, str]) -> str:
    """Replace the start of `name` by what `words` has for it."""
    for old, new in words.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def _unet_name(name: str, config: Any) -> str:  # noqa: ANN401
    layers: int = config.layers_per_block
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, layer, rest = found.groups()
        place = 1 if kind == "attentions" else 2 * int(layer)
        return f"middle_block.{place}.{_swap(rest, _RESNET) if kind == 'resnets' else rest}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|\w+samplers)\.(\d)\.(.+)", name)
    if found is None:
        return _swap(name, _OUTER)
    way, block, kind, layer, rest = found.groups()
    per_block = layers + 1
    if kind == "downsamplers":
        return f"input_blocks.{(int(block) + 1) * per_block}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in config.up_block_types[int(block)] else 1
        return f"output_blocks.{int(block) * per_block + layers}.{place}.{rest}"
    number = int(block) * per_block + int(layer) + (way == "down")
    blocks = "input_blocks" if way == "down" else "output_blocks"
    inner = f"0.{_swap(rest, _RESNET)}" if kind == "resnets" else f"1.{rest}"
    return f"{blocks}.{number}.{inner}"


def _vae_name(name: str, config: Any) -> str:  # noqa: ANN401
    last = len(config.block_out_channels) - 1
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if found := re.fullmatch(r"(.+)\.mid_block\.attentions\.0\.(.+)", name):
        return f"{found[1]}.mid.attn_1.{_swap(found[2], _ATTENTION)}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    for kind, word in (("resnets", "block"), (r"upsamplers\.0", "upsample")):
        if block := re.fullmatch(rf"(.*)up_blocks\.(\d)\.{kind}\.(.+)", name):
            return f"{block[1]}up.{last - int(block[2])}.{word}.{block[3]}"
    return name
