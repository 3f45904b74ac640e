"""cloneofsimo's layout, `unet:7:up`: the number counts modules in the order in which the network holds them.

The header lists the kinds of module that were counted. The shapes tell where a transformer block's
feed-forward part comes: between the two attentions, as in the diffusers of that time, or after them.
(cloneofsimo/lora `lora_diffusion/lora.py`, `save_safeloras_with_embeds`, `_find_modules_v2`)
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from loraudit.errors import NotScannable
from loraudit.lora.file.header import TensorInfo
from loraudit.lora.forms import measure
from loraudit.lora.layouts.dialects import Found, Part
from loraudit.lora.layouts.topology import COMPONENTS, SD1_FAMILY, Topology, topologies
from loraudit.lora.matrices import Site
from loraudit.text import parse_json

__all__ = ["CLONEOFSIMO", "find_indices", "is_embedding", "is_index"]

CLONEOFSIMO: Final = "cloneofsimo"

_KEY: Final = re.compile(r"(unet|text_encoder):(0|[1-9][0-9]{0,3}):(up|down)")
_ATTENTION: Final = frozenset({"CrossAttention", "Attention"})
_DEFAULT: Final = frozenset({*_ATTENTION, "GEGLU", "CLIPAttention"})
_BLOCKS: Final = ("down_blocks", "up_blocks", "mid_block")
# The order of registration: of a block's layers, of CLIP's projections.
_LAYERS: Final = ("attentions", "resnets")
_TEXT_LEAVES: Final = ("k_proj", "v_proj", "q_proj", "out_proj")
_FEED_FORWARD_FIRST: Final = ("attn1", "ff", "attn2")
_FEED_FORWARD_LAST: Final = ("attn1", "attn2", "ff")
_LONGEST: Final = 10_000
"""Limit in characters on the list of kinds; trainers name three."""


def is_index(key: str) -> bool:
    """Tell whether `key` is spelled in this layout."""
    return _KEY.fullmatch(key) is not None


def is_embedding(key: str, metadata: Mapping[str, str]) -> bool:
    """Tell whether the header calls the tensor `key` the embedding of a new token."""
    return metadata.get(key) == "<embed>"


def find_indices(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> Mapping[str, Found]:
    """Find the module of every key of this layout, in components whose order the shapes confirm."""
    base = next(base for base in topologies() if base.family == SD1_FAMILY)
    found: dict[str, Found] = {}
    for component in COMPONENTS:
        own: dict[int, dict[Part, str]] = {}
        for key in tensors:
            match = _KEY.fullmatch(key)
            if match is not None and match[1] == component:
                own.setdefault(int(match[2]), {})["up" if match[3] == "up" else "down"] = key
        if not own:
            continue
        kinds = _kinds(metadata.get(component))
        for order in _orders(base, component, kinds):
            if sorted(own) == list(range(len(order))) and _fits(base, order, own, tensors):
                for index, keys in own.items():
                    for part, key in keys.items():
                        found[key] = Found(order[index], key.rpartition(":")[0], part)
                break
    return found


def _kinds(text: str | None) -> frozenset[str]:
    """Read the kinds of module that the header names, or return the default ones if it names none."""
    if text is None or len(text) > _LONGEST:
        return _DEFAULT
    try:
        names = parse_json(text, "the list of module kinds")
    except NotScannable:
        return _DEFAULT
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else _DEFAULT


def _fits(
    base: Topology,
    order: list[Site],
    own: Mapping[int, Mapping[Part, str]],
    tensors: Mapping[str, TensorInfo],
) -> bool:
    for index, site in enumerate(order):
        keys = own[index]
        if len(keys) != 2:
            return False
        size = measure({"up": tensors[keys["up"]].shape, "down": tensors[keys["down"]].shape})
        if size is None or not base.fits(site, *size.shape):
            return False
    return True


def _orders(base: Topology, component: str, kinds: frozenset[str]) -> Iterator[list[Site]]:
    """Yield the two orders in which the modules of those kinds can have been counted."""
    for parts in (_FEED_FORWARD_FIRST, _FEED_FORWARD_LAST):
        ranked = []
        for at, site in enumerate(base.shapes):
            rank = _rank(site, kinds, parts) if site.startswith(f"{component}.") else None
            if rank is not None:
                ranked.append((rank, at, site))
        yield [site for _, _, site in sorted(ranked)]


def _rank(site: Site, kinds: frozenset[str], parts: tuple[str, ...]) -> tuple[int, ...] | None:
    """Rank the module in the walk over the network; None if it is of none of these kinds."""
    path = site.split(".")[1:]
    if path[0] == "encoder":
        if "CLIPAttention" not in kinds or path[-1] not in _TEXT_LEAVES:
            return None
        return int(path[2]), _TEXT_LEAVES.index(path[-1])
    at = next((at for at, part in enumerate(path) if part in _LAYERS), None)
    if at is None:
        return None
    place = (
        _BLOCKS.index(path[0]),
        int(path[1]) if at == 2 else 0,
        _LAYERS.index(path[at]),
        int(path[at + 1]),
    )
    if path[at] == "resnets":
        return (*place, 0) if "ResnetBlock2D" in kinds else None
    inner = next((part for part in parts if part in path), None)
    wanted = bool(_ATTENTION & kinds) if inner != "ff" else "GEGLU" in kinds and path[-1] == "proj"
    return (*place, parts.index(inner)) if inner is not None and wanted else None
