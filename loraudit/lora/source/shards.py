"""Files of weights that were written in several pieces, `name-00001-of-00002.safetensors` and so on.

transformers and peft cut a file that passes a limit. A pair of matrices may be cut apart, so that the pieces
mean something together only.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["first_shards", "shards_of"]

_SHARD: Final = re.compile(r"(.{1,200})-(\d{5})-of-(\d{5})(\.safetensors)", re.IGNORECASE | re.DOTALL)
MAX_SHARDS: Final = 100
"""Limit on the pieces of one file; a base model of 10 GB has ten."""


def shards_of(weights: Path) -> tuple[Path, ...]:
    """List all pieces of the file that `weights` is one of, there or not; `weights` alone if it is none."""
    match = _SHARD.fullmatch(weights.name)
    if match is None or not 1 <= int(match[2]) <= int(match[3]) <= MAX_SHARDS:
        return (weights,)
    start, _, count, ending = match.groups()
    names = (f"{start}-{number:05d}-of-{count}{ending}" for number in range(1, int(count) + 1))
    return tuple(weights.with_name(name) for name in names)


def first_shards(files: Sequence[Path]) -> list[Path]:
    """Leave of each file in pieces only the first piece that is among `files`, in order."""
    kept: dict[tuple[Path, ...], Path] = {}
    for path in files:
        kept.setdefault(shards_of(path), path)
    return list(kept.values())
