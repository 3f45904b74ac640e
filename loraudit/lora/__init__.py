"""LoRA files: any layout on disk to one canonical form, in numpy.

`load_lora(target)` is the door. A file's strings and numbers are hostile: sizes are checked before anything
is allocated, nothing is unpickled, no expression from a file is run, and text is shown only through `clean`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loraudit.errors import LorauditError, NotScannable
from loraudit.lora.adapter import AdapterConfig
from loraudit.lora.family import HINT, misfit, recognise, refuse_foreign
from loraudit.lora.header import Header, clean, file_sha256, read_header
from loraudit.lora.keys import Pair, Reading, read_keys
from loraudit.lora.matrices import Factors, LoRA, LoRAFile, Site, Unread, fold, read_tensor
from loraudit.lora.source import PEFT_CONFIG, Part, Source, find_source
from loraudit.lora.topology import COMPONENTS
from loraudit.lora.write import write_diffusers, write_kohya, write_peft

__all__ = [
    "Factors",
    "LoRA",
    "LoRAFile",
    "Site",
    "Unread",
    "clean",
    "load_lora",
    "write_diffusers",
    "write_kohya",
    "write_peft",
]


@dataclass(frozen=True)
class _Opened:
    """One weight file as far as its names are understood."""

    header: Header
    reading: Reading
    configs: Mapping[str, AdapterConfig | None]
    """For `unet` and `text_encoder`, what the adapter's configuration says."""

    def scale(self, pair: Pair) -> float:
        """The factor on `B A`: the file's alpha or configuration over the rank; 1 where there is neither."""
        if pair.alpha is not None:
            alpha = read_tensor(self.header.path, pair.alpha, self.header.tensors[pair.alpha])
            if alpha.size != 1:
                raise NotScannable(
                    f"'{clean(pair.alpha)}' holds {alpha.size} numbers, not one alpha", "export it again"
                )
            # kohya-ss/sd-scripts `networks/lora.py`: alpha None or 0 means alpha = rank.
            return (float(alpha.item()) or pair.rank) / pair.rank
        config = self.configs[pair.site.partition(".")[0]]
        return 1.0 if config is None else config.scale(pair.module, pair.rank)

    def fold(self, pair: Pair) -> Factors:
        """The matrices of `pair`, scaled."""
        tensors = self.header.tensors
        return fold(
            self.header.path, pair.up, tensors[pair.up], pair.down, tensors[pair.down], self.scale(pair)
        )


def load_lora(target: str | Path, offline: bool = False) -> LoRA:
    """The LoRA at `target`: a file, a peft folder, a folder with exactly one LoRA file, or one on the Hub.

    On the Hub: `hf://ns/name[@revision]/path`, a link, or `ns/name` with one LoRA in it; `offline`, only what
    the Hub cache holds. Raises `LorauditError` if there is no such file, it cannot be read or fetched, or a
    folder or repository holds several;
    `NotScannable` if it is not a sound LoRA file for a known base or holds values that are not finite.
    """
    try:
        return _load(find_source(target, offline))
    except OSError as error:
        raise LorauditError(
            f"cannot read {clean(str(target), 300)}: {error.strerror}", "check its permissions"
        ) from None


def _load(source: Source) -> LoRA:
    """Open every part, agree on a base, and fold each pair that fits it."""
    opened = [_open(part) for part in source.parts]
    unread = [item for part in opened for item in part.reading.unread]
    pairs = [pair for part in opened for pair in part.reading.pairs]
    if not pairs:
        raise NotScannable(f"{source.name} holds no LoRA matrices that can be read: {unread[0].why}", HINT)
    bases = recognise(source.name, pairs)
    factors: dict[Site, Factors] = {}
    for part in opened:
        for pair in part.reading.pairs:
            why = misfit(bases[0], pair) or ("this module is given twice" if pair.site in factors else None)
            if why is None:
                factors[pair.site] = part.fold(pair)
            else:
                unread += [
                    Unread(clean(key), why) for key in (pair.down, pair.up, pair.alpha) if key is not None
                ]
    paths = [part.weights for part in source.parts]
    return LoRA(
        file=LoRAFile(
            name=source.name,
            path=source.path,
            sha256=file_sha256(*paths),
            size_bytes=sum(part.header.size_bytes for part in opened),
            metadata={key: value for part in opened for key, value in part.header.metadata.items()},
            origin=source.origin,
        ),
        family=bases[0].family,
        base=bases[0].base if len(bases) == 1 else None,
        dialect=next(part.reading.dialect for part in opened if part.reading.pairs),
        factors=dict(sorted(factors.items())),
        unread=tuple(sorted(unread, key=lambda item: item.key)),
    )


def _open(part: Part) -> _Opened:
    header = read_header(part.weights)
    refuse_foreign(clean(part.weights.name), header.tensors)
    reading = read_keys(header.tensors)
    configs: dict[str, AdapterConfig | None] = dict.fromkeys(COMPONENTS)
    if reading.dialect == "diffusers":
        configs = {
            component: AdapterConfig.from_metadata(header.metadata, component) for component in COMPONENTS
        }
    elif reading.dialect == "peft" and part.config is not None:
        configs = dict.fromkeys(COMPONENTS, AdapterConfig.from_file(part.config))
    elif reading.dialect == "peft":
        missing = Unread(PEFT_CONFIG, "missing, so the scale of every module is unknown and taken as 1")
        reading = replace(reading, unread=(*reading.unread, missing))
    return _Opened(header, reading, configs)
