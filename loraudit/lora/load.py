"""Loading of a LoRA: open every part, agree on a base, fold each update that fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loraudit.errors import LorauditError, NotScannable
from loraudit.files import file_sha256
from loraudit.lora.dora import NEEDS_BASE
from loraudit.lora.file.header import Header, TensorInfo, read_header
from loraudit.lora.file.reference import require_agreement
from loraudit.lora.forms import Size
from loraudit.lora.layouts.adapter import DIFFUSERS_KEY, AdapterConfig
from loraudit.lora.layouts.dialects import ASIDE, SAVED, SAVED_BIAS
from loraudit.lora.layouts.family import misfit, recognise
from loraudit.lora.layouts.foreign import refuse_foreign, refuse_unread
from loraudit.lora.layouts.keys import Reading, Update, read_keys
from loraudit.lora.layouts.topology import COMPONENTS
from loraudit.lora.matrices import DoRA, Factors, LoRA, LoRAFile, Site, Unread, fold, read_tensor
from loraudit.lora.source.address import PEFT_CONFIG, PEFT_WEIGHTS
from loraudit.lora.source.source import Part, Source, find_source
from loraudit.text import clean

__all__ = ["load_lora"]

MAX_BYTES: Final = 1 << 30
"""Limit in bytes on the factors of a file, unless the file itself is of that order."""
_FAIR: Final = 16
"""Factor by which any file may grow: bytes become float32, a whole matrix gets an identity beside it."""
_ITEM: Final = 4
_PEFT_STEM: Final = PEFT_WEIGHTS.removesuffix(".safetensors")


@dataclass(frozen=True)
class _Opened:
    """Weight file, whole or in pieces, as far as its names are understood."""

    headers: tuple[Header, ...]
    """Headers of the pieces; one of a whole file."""
    homes: Mapping[str, Header]
    """Header of the piece that holds each tensor."""
    reading: Reading
    configs: Mapping[str, AdapterConfig | None]
    """Adapter's configuration for `unet` and for `text_encoder`; None if there is none."""

    def info(self, key: str) -> TensorInfo:
        """Return the place of a tensor in its piece."""
        return self.homes[key].tensors[key]

    def read(self, key: str) -> NDArray[np.float32]:
        """Read a tensor as float32."""
        return read_tensor(self.homes[key].path, key, self.info(key))

    def scale(self, update: Update) -> float:
        """Return the factor on the update: alpha (or the configuration's) over the rank, 1 without alpha."""
        rank = update.size.rank
        if update.alpha is not None:
            alpha = self.read(update.alpha)
            # kohya-ss/sd-scripts `networks/lora.py`: alpha None or 0 means alpha = rank.
            return float(alpha.item()) / rank if rank is not None and alpha.item() else 1.0
        config = self.configs[update.site.partition(".")[0]]
        return 1.0 if config is None else config.scale(update.module, rank)

    def lacks(self, update: Update) -> str | None:
        """Tell why `update` is not all of its module; None if it is."""
        config = self.configs[update.site.partition(".")[0]]
        if config is not None and config.dora and update.magnitude is None:
            return "it is DoRA without its magnitude"
        return None

    def fold(self, update: Update) -> Factors:
        """Read the matrices of `update`, scaled."""
        name, keys = self.headers[0].path.name, update.keys
        return fold({role: self.read(key) for role, key in keys.items()}, self.scale(update), name, keys)


def load_lora(target: str | Path | Source, offline: bool = False) -> LoRA:
    """Load the LoRA at `target`: a file, a peft folder, a folder with one LoRA file, or a Hub address.

    An address on the Hub is `hf://ns/name[@revision]/path`, a link, or `ns/name` with one LoRA in it. If
    `offline`, only the Hub cache is read.

    Raises `LorauditError` if the file is missing or cannot be read or fetched, or if a folder or repository
    holds several. Raises `NotScannable` if the file is no sound LoRA for a known base or holds values that
    are not finite.
    """
    shown = target.path if isinstance(target, Source) else target
    try:
        return _load(target if isinstance(target, Source) else find_source(target, offline))
    except OSError as error:
        raise LorauditError(
            f"cannot read {clean(str(shown), 300)}: {error.strerror}", "check its permissions"
        ) from None


def _load(source: Source) -> LoRA:
    """Open every part, agree on a base, and fold each update that fits it."""
    opened = [_open(parts) for parts in _whole_files(source.parts)]
    headers = [header for part in opened for header in part.headers]
    unread = [item for part in opened for item in part.reading.unread]
    updates = [update for part in opened for update in part.reading.updates]
    if not updates:
        raise refuse_unread(source.name, headers, unread)
    bases = recognise(source.name, updates, headers)
    factors: dict[Site, Factors] = {}
    dora: dict[Site, DoRA] = {}
    placed = [(part, update, misfit(bases[0], update)) for part in opened for update in part.reading.updates]
    fitting = [(part, update) for part, update, why in placed if why is None]
    held = sum(part.info(key).size for part, update in fitting for key in update.all_keys)
    _require_memory(source.name, [update.size for _, update in fitting], held)
    for part, update, unfit in placed:
        twice = "this module is given twice" if update.site in factors | dora else None
        why = unfit or part.lacks(update) or twice
        if why is None and update.magnitude is not None:
            magnitude, why = update.magnitude, NEEDS_BASE
            values = part.read(magnitude.key)
            dora[update.site] = DoRA(part.fold(update), values.ravel(), magnitude.axis)
        elif why is None:
            factors[update.site] = part.fold(update)
        if why is not None:
            unread += [Unread(clean(key), why) for key in update.all_keys]
    if not factors and not dora:
        raise refuse_unread(source.name, headers, unread)
    paths = [part.weights for part in source.parts]
    return LoRA(
        file=LoRAFile(
            name=source.name,
            path=source.path,
            sha256=file_sha256(*paths),
            size_bytes=sum(header.size_bytes for header in headers),
            metadata={key: value for header in headers for key, value in header.metadata.items()},
            origin=source.origin,
        ),
        family=bases[0].family,
        base=bases[0].base if len(bases) == 1 else None,
        dialect=next(part.reading.dialect for part in opened if part.reading.updates),
        factors=dict(sorted(factors.items())),
        unread=tuple(sorted(unread, key=lambda item: item.key)),
        dora=dict(sorted(dora.items())),
    )


def _require_memory(name: str, sizes: Sequence[Size], held: int) -> None:
    """Refuse updates that take far more memory than the `held` bytes of their tensors in the file."""
    needed = _ITEM * sum(size.numbers for size in sizes)
    if needed > max(MAX_BYTES, _FAIR * held):
        raise NotScannable(
            f"{name} holds matrices of {held / 1e6:.3g} MB that, multiplied out, would take "
            f"{needed / 1e9:.3g} GB",
            "loraudit reads products of whole matrices (LoKr, LoHa) up to 1 GB; extract a plain LoRA from it",
        )


def _whole_files(parts: Sequence[Part]) -> list[list[Part]]:
    """Put the pieces of one file together."""
    files: dict[tuple[Path, ...], list[Part]] = {}
    for part in parts:
        files.setdefault(part.pieces or (part.weights,), []).append(part)
    return list(files.values())


def _open(parts: Sequence[Part]) -> _Opened:
    """Read the headers of a file, whole or in pieces, and its names."""
    headers = [read_header(part.weights) for part in parts]
    for header in headers:
        require_agreement(header)
        refuse_foreign(clean(header.path.name), header.tensors)
    homes: dict[str, Header] = {}
    twice: list[str] = []
    for header in headers:
        twice += [key for key in header.tensors if key in homes]
        homes |= dict.fromkeys(header.tensors, header)
    for key in twice:
        homes.pop(key, None)
    metadata = {key: value for header in headers for key, value in header.metadata.items()}
    reading = read_keys({key: header.tensors[key] for key, header in homes.items()}, metadata)
    here = {part.weights for part in parts}
    lacking = [
        Unread(clean(piece.name), "this piece of the file is not there")
        for piece in parts[0].pieces
        if piece not in here
    ]
    lacking += [
        Unread(clean(key), "this tensor is in two pieces of the file") for key in dict.fromkeys(twice)
    ]
    reading = replace(reading, unread=(*lacking, *reading.unread))
    part = parts[0]
    configs: dict[str, AdapterConfig | None] = dict.fromkeys(COMPONENTS)
    own = part.config is not None and part.weights.name.startswith(_PEFT_STEM)
    if reading.dialect == "diffusers" and (DIFFUSERS_KEY in metadata or not own):
        configs = {component: AdapterConfig.from_metadata(metadata, component) for component in COMPONENTS}
    elif reading.dialect in {"diffusers", "peft"} and part.config is not None:
        # Under peft's own name, names without peft's prefix are still an adapter's.
        config = AdapterConfig.from_file(part.config)
        configs = dict.fromkeys(COMPONENTS, config)
        reading = replace(reading, unread=tuple(_trained(item, config) for item in reading.unread))
    elif reading.dialect == "peft":
        missing = Unread(PEFT_CONFIG, "missing, so the scale of every module is unknown and taken as 1")
        reading = replace(reading, unread=(*reading.unread, missing))
    return _Opened(tuple(headers), homes, reading, configs)


def _trained(item: Unread, config: AdapterConfig) -> Unread:
    """Say of an unread tensor that it was trained, if the configuration lists it among those that were."""
    if any(f".{name}." in f".{item.key}" for name in config.saved):
        return Unread(item.key, SAVED)
    if config.biases and item.key.endswith(".bias") and item.why == ASIDE["whole"]:
        return Unread(item.key, SAVED_BIAS)
    return item
