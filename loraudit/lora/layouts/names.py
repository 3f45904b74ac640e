"""Spellings of every module path, enumerated from the known bases: a name is looked up, never taken apart.

`to_out_0` and `time_emb_proj` hold underscores of their own, so a path with underscores for dots cannot be
parsed. The table of all paths is small and free of collisions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from loraudit.lora.layouts.compvis import compvis_paths
from loraudit.lora.layouts.topology import SD1_FAMILY, UNetShape, topologies
from loraudit.lora.matrices import Site

__all__ = ["Names", "Naming", "sites_by_name"]

Naming = Literal["dotted", "underscored", "processors", "compvis", "compvis underscored"]
"""Spelling of module paths: that of diffusers, of the attention processors of diffusers 0.12 to 0.21, or of
CompVis's code. The first and the last occur with underscores for dots."""

# diffusers `utils/state_dict_utils.py`, UNET_TO_DIFFUSERS and DIFFUSERS_OLD_TO_PEFT.
_PROCESSORS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "unet": tuple(
        (leaf, f"processor.{name}_lora")
        for leaf, name in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out.0", "to_out"))
    ),
    "text_encoder": tuple((f"{name}_proj", f"to_{name}_lora") for name in ("q", "k", "v", "out")),
}


@dataclass(frozen=True)
class Names:
    """Module paths of one component in one spelling."""

    sites: Mapping[str, Site]
    heads: frozenset[str]
    """Names before the first dot of all paths."""
    depth: int
    """Largest number of parts of a path."""


@cache
def sites_by_name(component: str, naming: Naming) -> Names:
    """List every module path of `component` (`unet` or `text_encoder`) in that spelling, with its site.

    CompVis's numbers depend on the depth of the UNet. SD 1.x is the only base that files with such names are
    made for, so its numbers are taken.
    """
    sites = dict(_names(component, naming))
    if naming.endswith("underscored"):
        sites = {name.replace(".", "_"): site for name, site in sites.items()}
    parts = [name.split(".") for name in sites]
    return Names(sites, frozenset(head for head, *_ in parts), max(map(len, parts), default=0))


def _names(component: str, naming: Naming) -> Iterator[tuple[str, Site]]:
    if naming.startswith("compvis"):
        if component == "unet":
            sites = next(base for base in topologies() if base.family == SD1_FAMILY).shapes
            for name, path in compvis_paths(UNetShape()).items():
                if f"unet.{path}" in sites:
                    yield name, f"unet.{path}"
        return
    for site in (site for topology in topologies() for site in topology.shapes):
        owner, _, path = site.partition(".")
        if owner != component:
            continue
        if naming == "processors":
            for leaf, name in _PROCESSORS[component]:
                if path.endswith(f".{leaf}"):
                    yield from _both(component, path.removesuffix(leaf) + name, site)
        else:
            yield from _both(component, path, site)


def _both(component: str, path: str, site: Site) -> Iterator[tuple[str, Site]]:
    # transformers 5.6 dropped `text_model.` from the module paths of CLIPTextModel: both occur.
    yield path, site
    if component == "text_encoder":
        yield f"text_model.{path}", site
