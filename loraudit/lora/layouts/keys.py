"""Way from tensor names to sites: the tensors of a file by the module they update; no values are read.

A file is read in the one dialect that explains most of its names. A tensor that no rule explains ends in
`Reading.unread` with the reason. So does its whole module, because a module read in part would be a
different update.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from loraudit.hiding import named
from loraudit.lora.file.header import TensorInfo
from loraudit.lora.forms import FORMS, Role, Size, form_of, measure
from loraudit.lora.layouts.adapter_names import DEFAULT, adapter_in, with_adapter
from loraudit.lora.layouts.cloneofsimo import CLONEOFSIMO, find_indices, is_embedding, is_index
from loraudit.lora.layouts.dialects import ASIDE, DIALECTS, Found
from loraudit.lora.layouts.wrappers import unwrapped
from loraudit.lora.matrices import DTYPES, Site, Unread
from loraudit.text import clean

__all__ = ["NO_MODULE", "Magnitude", "Reading", "Update", "read_keys"]

FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_PREFIXES: Final = {CLONEOFSIMO: ("unet:", "text_encoder:")} | {
    dialect.name: dialect.prefixes for dialect in DIALECTS
}
_ALL_PREFIXES: Final = tuple(prefix for prefixes in _PREFIXES.values() for prefix in prefixes)
NO_MODULE: Final = "no base has a module of this name"
_EMBEDDING: Final = "a textual inversion embedding that rides along, not part of the LoRA"


@dataclass(frozen=True)
class Magnitude:
    """Magnitude of DoRA: one norm for each channel on one side of the module."""

    key: str
    axis: int
    """Axis of the channels, like `DoRA.axis`."""
    count: int


@dataclass(frozen=True)
class Update:
    """Tensors that update one module."""

    site: Site
    module: str
    """Module path as the file spells it, without the prefix."""
    keys: Mapping[Role, str]
    """Keys of the tensors that make up the update, of one of the forms in `forms.FORMS`."""
    alpha: str | None
    """Key of alpha; None if there is none."""
    size: Size
    magnitude: Magnitude | None = None
    """Magnitude of a DoRA module, whose direction the tensors are then."""

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Keys of every tensor of the module."""
        more = (self.alpha, None if self.magnitude is None else self.magnitude.key)
        return (*self.keys.values(), *(key for key in more if key is not None))


@dataclass(frozen=True)
class Reading:
    """Reading of the names of one file."""

    dialect: str
    """Layout of the updates; empty if there are none."""
    updates: tuple[Update, ...]
    unread: tuple[Unread, ...]


def read_keys(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> Reading:
    """Group the tensors of a file by module, in the dialect that explains most of them.

    `metadata` is the header's own text: cloneofsimo's layout names the kinds of module there.
    """
    adapters = {adapter_in(key) for key in tensors} - {""}
    # peft names the adapter in every key; where there is one, its name means no more than "default" does.
    spelled = {key: unwrapped(with_adapter(key, DEFAULT) if len(adapters) == 1 else key) for key in tensors}
    readings = {
        dialect.name: {key: found for key in tensors if (found := dialect.find(spelled[key])) is not None}
        for dialect in DIALECTS
    }
    readings[CLONEOFSIMO] = dict(find_indices(tensors, metadata))
    scores = {
        name: sum(found.part is not None for found in reading.values()) for name, reading in readings.items()
    }
    if not any(scores.values()):
        # Where nothing is understood, the prefixes decide what is said about the file.
        names = spelled.values()
        scores = {name: sum(key.startswith(_PREFIXES[name]) for key in names) for name in readings}
    chosen = max(scores, key=lambda name: scores[name])
    unread = [
        Unread(
            clean(key), _not_read(info.dtype) or _why_nowhere(key, spelled[key], chosen, readings, metadata)
        )
        for key, info in tensors.items()
        if key not in readings[chosen]
    ]
    by_site: defaultdict[Site, list[tuple[str, Found]]] = defaultdict(list)
    for key, found in readings[chosen].items():
        if found.part is not None and found.part in ASIDE:
            unread.append(Unread(clean(key), ASIDE[found.part]))
        else:
            by_site[found.site].append((key, found))
    updates = []
    for site, members in by_site.items():
        update = _update(site, members, tensors)
        if isinstance(update, Update):
            updates.append(update)
        else:
            unread += [Unread(clean(key), update) for key, _ in members]
    return Reading(chosen if updates else "", tuple(updates), tuple(unread))


def _update(
    site: Site, members: Sequence[tuple[str, Found]], tensors: Mapping[str, TensorInfo]
) -> Update | str:
    """Read the update of one module, or tell why there is none."""
    keys: dict[Role, str] = {}
    alpha, magnitude = None, None
    for key, found in members:
        if found.part == "alpha":
            if alpha is not None:
                return "this module is given twice"
            alpha = key
        elif found.part == "dora_scale" or found.part == "dora_vector":
            if magnitude is not None:
                return "this module is given twice"
            magnitude = _magnitude(key, found.part, tensors[key])
            if magnitude is None:
                return f"'{named(key[-40:])}' is no magnitude of DoRA"
        elif found.part is None and adapter_in(key):
            return "this module has several adapters, and nothing says which is meant"
        elif found.part is None or found.part == "bias" or found.part == "base":
            return f"this module holds '{named(key[-40:])}', which is more than a plain LoRA pair"
        elif found.part == "whole" or found.part == "saved":
            return ASIDE[found.part]
        elif found.part in keys:
            return "this module is given twice"
        else:
            keys[found.part] = key
    roles = frozenset(keys)
    if form_of(roles) is None:
        if any(roles < form for form in FORMS):
            return f"this module lacks one of its {'two ' * (roles <= {'up', 'down'})}matrices"
        return "this module mixes the matrices of several kinds of adapter"
    infos = {role: tensors[key] for role, key in keys.items()}
    dtypes = sorted({info.dtype for info in infos.values()} - FLOATS)
    if dtypes:
        return f"the matrices are {', '.join(dtypes)}, no floating-point type that is read"
    if alpha is not None and _not_read(tensors[alpha].dtype):
        return f"its alpha is {tensors[alpha].dtype}, a dtype that is not read"
    if alpha is not None and math.prod(tensors[alpha].shape) != 1:
        return f"its alpha holds {math.prod(tensors[alpha].shape)} numbers, not one"
    size = measure({role: info.shape for role, info in infos.items()})
    if size is None:
        shapes = " and ".join(str(list(info.shape)) for info in infos.values())
        return f"shapes {shapes} do not multiply"
    return Update(site, members[0][1].module, keys, alpha, size, magnitude)


def _not_read(dtype: str) -> str:
    """Say that a tensor of this dtype is not read; empty if it is."""
    return "" if dtype in DTYPES else f"it is {dtype}, a dtype that is not read"


def _magnitude(key: str, part: Literal["dora_scale", "dora_vector"], info: TensorInfo) -> Magnitude | None:
    """Read the shape of DoRA's magnitude; None if that is no list of numbers.

    peft's vector is always of the outputs, `[out]` or of a convolution `[1, out, 1, 1]`. LyCORIS and
    OneTrainer write `[out, 1]` or `[1, in]`, with `1, 1` more for a convolution; a list under their name is
    taken for peft's. (peft `tuners/lora/dora.py`, LyCORIS `modules/locon.py`)
    """
    count = math.prod(info.shape)
    if info.dtype not in FLOATS or not count or max(info.shape, default=0) != count:
        return None
    return Magnitude(key, int(part == "dora_scale" and info.shape[0] == 1 and len(info.shape) > 1), count)


def _why_nowhere(
    key: str,
    spelled: str,
    chosen: str,
    readings: Mapping[str, Mapping[str, Found]],
    metadata: Mapping[str, str],
) -> str:
    """Tell why the chosen dialect does not place `key`, which is `spelled` without its wrappers."""
    if key.startswith("bundle_emb.") or (chosen == CLONEOFSIMO and is_embedding(key, metadata)):
        return _EMBEDDING
    if key.endswith((".w_norm", ".b_norm")):
        return "an update of a normalisation layer, which is not low-rank"
    if is_index(key):
        return "the order of the modules cannot be told from their shapes"
    if spelled.startswith(_PREFIXES[chosen]):
        return NO_MODULE
    if spelled.startswith(_ALL_PREFIXES) or any(key in reading for reading in readings.values()):
        return "this layout differs from that of the rest of the file"
    return "no known layout names a tensor so"
