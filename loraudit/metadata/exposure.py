"""Everything that goes out with a LoRA besides its numbers: header, tensor names, file name, side files."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Final

from loraudit.lora.file.header import Header, Hidden, read_header
from loraudit.lora.source.source import Source
from loraudit.metadata.beside import (
    CONFIG_BYTES,
    README,
    Beside,
    Said,
    card_texts,
    look_beside,
    start,
)
from loraudit.metadata.front import front_matter
from loraudit.metadata.inside import Inside, look_inside
from loraudit.metadata.tokens import embedded

__all__ = ["Exposure", "header_exposure", "read_exposure"]


_NOTHING: Final = Beside()


@dataclass(frozen=True)
class Exposure:
    """Texts of one LoRA's files: hostile, to be `clean`ed before display."""

    names: tuple[str, ...]
    """Names of the files, without their ending."""
    said: tuple[Said, ...]
    """Texts of metadata (passed-over values too), of the adapter configuration, of `beside` and `inside`."""
    tensors: tuple[str, ...]
    """Names of the tensors."""
    hidden: tuple[Hidden, ...]
    size_bytes: int
    """Size of the weights."""
    beside: Beside = _NOTHING
    inside: tuple[Inside, ...] = ()
    """Words of pictures inside the texts of metadata and of side files."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """Words that call the subject up: the prompts of model cards, and the names of bundled embeddings."""
        prompts = [one.text for one in self.said if (one.place, one.key) == (README, "instance_prompt")]
        return (*prompts, *embedded(self.tensors))


def read_exposure(source: Source) -> Exposure:
    """Read headers and small side files of `source` only.

    Raises `LorauditError` if a file of weights cannot be read, `NotScannable` if it is no sound safetensors
    file.
    """
    headers = [read_header(part.weights) for part in source.parts]
    said = [item for header in headers for item in _said(header)]
    beside = look_beside(source)
    for config in (part.config for part in source.parts if part.config is not None):
        try:
            said.append(Said(config.name, "", start(config, CONFIG_BYTES)))
        except OSError:
            beside = beside._replace(unread=(*beside.unread, config.name))
    said += beside.said
    inside = look_inside(said)
    return Exposure(
        names=tuple(dict.fromkeys(path.stem for path in (source.path, *(p.weights for p in source.parts)))),
        said=(*said, *(one for looked in inside for one in looked.said)),
        tensors=tuple(chain.from_iterable(header.tensors for header in headers)),
        hidden=tuple(item for header in headers for item in header.hidden),
        size_bytes=sum(header.size_bytes for header in headers),
        beside=beside,
        inside=inside,
    )


def header_exposure(header: Header, side_files: Mapping[str, str] | None = None) -> Exposure:
    """Collect the texts of a file whose header is at hand, with small text files beside it by their path."""
    side, whole = _side(side_files or {})
    said = [*_said(header), *side]
    inside = look_inside(said)
    return Exposure(
        names=(header.path.stem,),
        said=(*said, *(one for looked in inside for one in looked.said)),
        tensors=tuple(header.tensors),
        hidden=header.hidden,
        size_bytes=header.size_bytes,
        beside=Beside(unread=() if whole else (README,)),
        inside=inside,
    )


def _said(header: Header) -> list[Said]:
    said = [Said("header", key, text) for key, text in header.metadata.items()]
    return said + [
        Said("header", item.key, item.text) for item in header.hidden if item.kind == "metadata key"
    ]


def _side(side_files: Mapping[str, str]) -> tuple[list[Said], bool]:
    """List the texts of small files by their path, and tell whether each model card was read whole."""
    said: list[Said] = []
    whole = True
    for path, text in side_files.items():
        name = PurePosixPath(path).name
        if name == README:
            card = front_matter(text)
            said += card_texts(card)
            whole &= card.whole
        else:
            said.append(Said(name, "", text))
    return said, whole
