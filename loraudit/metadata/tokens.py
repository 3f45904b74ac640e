"""Words that became names of tensors: learned tokens, bundled embeddings."""

import re
from collections.abc import Collection, Iterator
from typing import Final

from loraudit.hiding import is_public
from loraudit.metadata.names import subject

__all__ = ["LONGEST_NAME", "embedded", "odd_names", "token"]

_PLAIN: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz."
_PLAIN_NAME: Final = re.compile(r"[\w.]*", re.ASCII)
_PLAIN_OR_MASKED: Final = re.compile(r"\w*…?\w*", re.ASCII)
"""Piece of a layer's name, whole or with a secret in it that was masked."""
LONGEST_NAME: Final = 1_000
"""Limit in characters on the part of a name that is looked into; no module's path is as long."""
_BUNDLED: Final = "bundle_emb."
_LAYOUTS: Final = ("lora_", "lycoris_", "oft_", "lllite_")
"""Starts of names in which kohya spells a module's whole path as one word."""
_WRAPPER: Final = "base_model.model."
_HOLDERS: Final = frozenset({"concepts", "emb", "embeddings", "embeds", "learned_embeds", "tokens"})
"""First words of names that end in a learned token."""
_ENDING: Final = re.compile(
    r"(?:\.(?:lora_\w+|lora\.(?:up|down)|lora|hada_\w+|lokr_\w+))?(?:\.(?:weight|bias|alpha|dora_scale))?$"
)
"""End of a tensor's name that says what its numbers are."""
_MOST_DOTS: Final = 3
"""Limit on the dots in a name that is one word and an ending."""
_NETWORK_WORDS: Final = """
alphas bert betas classifier clipped clf cls coef coef1 coef2 cumprod decay decoders denoiser distilled ema
encoders epoch fp8 freqs global gpt h iteration lm log logvar loss mean minus mm modal multi neox num one
optimizer outputs patch post posterior prev projector qa quant recip recipm1 roberta rope scaled score seg
sigmas sqrt step updates variance visual wpe wte
"""
_NETWORKS: Final = frozenset(_NETWORK_WORDS.split())
"""Words of language models and full checkpoints that stand alone, or before the layers."""
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|\d+")
_ANGLES: Final = re.compile(r"<([^<>\n]{1,100})>")
_APART: Final = re.compile(r"[.:/|]")
_EMBEDDED: Final = "<embed>"
"""Value that the trainer of Pivotal Tuning gives to the key of a learned token."""


def odd_names(tensors: Collection[str]) -> list[str]:
    """List the names that hold other characters than letters of ASCII, digits, dots and lines."""
    # A file holds thousands of plain names, and all are looked at together first.
    if not "".join(tensors).encode("utf-8", "replace").translate(None, _PLAIN):
        return []
    return [name for name in tensors if not _PLAIN_NAME.fullmatch(name)]


def embedded(tensors: Collection[str]) -> list[str]:
    """List the words of embeddings in the file, sorted.

    OneTrainer names them `bundle_emb.<word>.string_to_param`. Others name the tensor by the token itself:
    `<word>`. No layer of a model has a name with other characters than letters, digits, dots and lines, and
    none stands alone under a word that no network has.
    """
    found = set(_alone(tensors))
    if _BUNDLED in "\n".join(tensors):
        found |= {name.split(".")[1] for name in tensors if name.startswith(_BUNDLED)}
    for name in odd_names(tensors):
        if not name.startswith(_BUNDLED):
            pieces = (piece for piece in _APART.split(name) if not _PLAIN_OR_MASKED.fullmatch(piece))
            found |= set(_ANGLES.findall(name) or filter(subject, pieces))
    return sorted(filter(None, found))


def _alone(tensors: Collection[str]) -> Iterator[str]:
    """Yield words that are whole names but for an ending, stand before all layers, or after a holder."""
    plain: set[str] = set()
    for name in tensors:
        # A file holds thousands of names, and nearly all begin alike.
        if name.startswith(_LAYOUTS):
            continue
        wrapped, bare = name.startswith(_WRAPPER), name[:LONGEST_NAME].removeprefix(_WRAPPER)
        first, _, rest = bare.partition(".")
        if first in plain and (not wrapped or bare.count(".") > _MOST_DOTS):
            continue
        stem = _ENDING.sub("", bare) if bare.count(".") <= _MOST_DOTS else bare
        if first in _HOLDERS and rest and "." not in rest and not _are_known(rest):
            yield rest
        elif "." not in stem and not _are_known(stem):
            yield stem
        elif not wrapped and "." in stem and _is_strange(first):
            yield first
        elif first not in _HOLDERS:
            plain.add(first)


def _are_known(words: str) -> bool:
    """Tell whether all of `words` are those of networks, or hold what another rule reads."""
    if is_public(words) or not _PLAIN_NAME.fullmatch(words):
        return True
    return all(is_public(word) or word.lower() in _NETWORKS for word in _WORDS.findall(words))


def _is_strange(word: str) -> bool:
    """Tell whether nothing in `word` is a network's; single letters and numbers are anybody's."""
    long = [part for part in _WORDS.findall(word) if len(part) > 1 and not part.isdecimal()]
    known = is_public(word) or any(is_public(part) or part.lower() in _NETWORKS for part in long)
    return bool(long) and _PLAIN_NAME.fullmatch(word) is not None and not known


def token(key: str, text: str) -> str:
    """Take the learned token that the metadata key `key` is, `<word>`; empty if it is none."""
    angles = _ANGLES.fullmatch(key.strip())
    if angles:
        return angles[1]
    return key.strip() if text.strip() == _EMBEDDED else ""
