"""Tensor names to sites: the layouts ("dialects") in which trainers write a LoRA; no values are read.

A dialect is data: the prefixes that name a component, how the module path is spelled, and what the suffixes
mean. The module path is looked up among the modules of the known bases and never taken apart: `to_out_0` and
`time_emb_proj` hold underscores of their own. A tensor that no rule explains ends in `Reading.unread` with
the reason, and so does the whole module it belongs to, because a module read in part would be a different
update.

Sources: diffusers `state_dict_utils.py` (PEFT_TO_DIFFUSERS), kohya-ss/sd-scripts `networks/lora.py`, peft
`utils/save_and_load.py`.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from loraudit.lora.header import TensorInfo, clean
from loraudit.lora.matrices import Site, Unread
from loraudit.lora.topology import topologies

__all__ = ["DIALECTS", "Dialect", "Pair", "Reading", "read_keys"]

Role = Literal["down", "up", "alpha"]
FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True)
class Dialect:
    """One layout of tensor names: prefix, module path, suffix."""

    name: str
    prefixes: Mapping[str, tuple[str, ...]]
    """What a key starts with, and the components (`unet`, `text_encoder`) that it may belong to."""
    suffixes: Mapping[str, Role]
    """What follows the module path and its dot."""
    underscored: bool = False
    """Whether the dots of the module path are written as underscores."""

    def claims(self, key: str) -> bool:
        """Whether `key` is spelled as this dialect spells its keys, by the prefix."""
        return key.startswith(tuple(self.prefixes))


DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        "diffusers",
        {"unet.": ("unet",), "text_encoder.": ("text_encoder",)},
        {
            "lora.down.weight": "down",
            "lora.up.weight": "up",
            "lora_linear_layer.down.weight": "down",
            "lora_linear_layer.up.weight": "up",
            "lora_A.weight": "down",
            "lora_B.weight": "up",
        },
    ),
    Dialect(
        "kohya",
        {"lora_unet_": ("unet",), "lora_te_": ("text_encoder",), "lora_te1_": ("text_encoder",)},
        {"lora_down.weight": "down", "lora_up.weight": "up", "alpha": "alpha"},
        underscored=True,
    ),
    Dialect(
        "peft",
        {"base_model.model.": ("unet", "text_encoder")},
        {"lora_A.weight": "down", "lora_B.weight": "up"},
    ),
)
"""The layouts that are read. They share no prefix, so their order does not matter."""


@dataclass(frozen=True)
class Pair:
    """The tensors of one adapted module."""

    site: Site
    module: str
    """The module path as the file spells it, without the prefix."""
    down: str
    """Key of A."""
    up: str
    """Key of B."""
    alpha: str | None
    """Key of alpha, where the layout has one."""
    rank: int
    shape: tuple[int, int]
    """`(out, in)` of the update, a convolution's `in`, `k`, `k` flattened into one."""


@dataclass(frozen=True)
class Reading:
    """What the names of one file say."""

    dialect: str
    """Of the pairs; empty if there are none."""
    pairs: tuple[Pair, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class _Found:
    """One key, understood as far as its module."""

    key: str
    module: str
    role: Role | None


def read_keys(tensors: Mapping[str, TensorInfo]) -> Reading:
    """Group the tensors of a file into pairs, by the dialect that explains most of them."""
    counts = [sum(dialect.claims(key) for key in tensors) for dialect in DIALECTS]
    dialect = DIALECTS[counts.index(max(counts))]
    unread: list[Unread] = []
    by_site: defaultdict[Site, list[_Found]] = defaultdict(list)
    for key in tensors:
        if not dialect.claims(key):
            unread.append(Unread(clean(key), _why_foreign(key)))
            continue
        site, found = _locate(dialect, key)
        if site is None:
            unread.append(Unread(clean(key), "no base has a module of this name"))
        else:
            by_site[site].append(found)
    pairs = []
    for site, found_keys in by_site.items():
        pair = _pair(site, found_keys, tensors)
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            unread += [Unread(clean(found.key), pair) for found in found_keys]
    return Reading(dialect.name if pairs else "", tuple(pairs), tuple(unread))


def _pair(site: Site, found: Sequence[_Found], tensors: Mapping[str, TensorInfo]) -> Pair | str:
    """The pair of one module, or why there is none."""
    keys: dict[Role, str] = {}
    for item in found:
        if item.role is None:
            return f"this module holds '{clean(item.key[-40:])}', which is more than a plain LoRA pair"
        if item.role in keys:
            return "this module is given twice"
        keys[item.role] = item.key
    if "down" not in keys or "up" not in keys:
        return "this module lacks one of its two matrices"
    down, up = tensors[keys["down"]], tensors[keys["up"]]
    if not {down.dtype, up.dtype} <= FLOATS:
        return f"the matrices are {down.dtype} and {up.dtype}, not floating point"
    if (
        len(down.shape) not in (2, 4)
        or len(up.shape) not in (2, 4)
        or any(size != 1 for size in up.shape[2:])
    ):
        return f"shapes {list(down.shape)} and {list(up.shape)} are not those of a LoRA pair"
    if 0 in down.shape + up.shape or down.shape[0] != up.shape[1]:
        return f"shapes {list(down.shape)} and {list(up.shape)} do not multiply"
    shape = (up.shape[0], math.prod(down.shape[1:]))
    return Pair(site, found[0].module, keys["down"], keys["up"], keys.get("alpha"), down.shape[0], shape)


def _locate(dialect: Dialect, key: str) -> tuple[Site | None, _Found]:
    prefix = next(
        prefix for prefix in sorted(dialect.prefixes, key=len, reverse=True) if key.startswith(prefix)
    )
    names = [_modules(component, dialect.underscored) for component in dialect.prefixes[prefix]]
    # No module path has 16 parts, so a key of a million dots costs no more than any other.
    parts = key[len(prefix) :].split(".", 16)
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        for sites in names:
            if module in sites:
                return sites[module], _Found(key, module, dialect.suffixes.get(".".join(parts[end:])))
    return None, _Found(key, "", None)


def _why_foreign(key: str) -> str:
    if any(dialect.claims(key) for dialect in DIALECTS):
        return "this layout differs from that of the rest of the file"
    return "no known layout names a tensor so"


@cache
def _modules(component: str, underscored: bool) -> Mapping[str, Site]:
    """Every spelling of a module path of `component`, in any known base, to its site."""
    spelled: dict[str, Site] = {}
    for site in (site for topology in topologies() for site in topology.shapes):
        owner, _, path = site.partition(".")
        if owner == component:
            # transformers 5.6 dropped `text_model.` from the module paths of CLIPTextModel: both occur.
            for name in (path, f"text_model.{path}") if owner == "text_encoder" else (path,):
                spelled[name.replace(".", "_") if underscored else name] = site
    return spelled
