"""Secrets in what a LoRA's files say: found before any other rule looks, and masked for all of them."""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from loraudit.findings.finding import Confidence
from loraudit.hiding import mask, secrets
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.nested import Members, NotReadError, parse, texts
from loraudit.metadata.patterns import picture_type
from loraudit.metadata.quotes import EMPTY

__all__ = ["Texts", "known_secrets", "searched", "without_secrets"]

Texts = tuple[str, Iterable[tuple[str, str]]]
"""Place, and the texts there that are no pictures, each with its key."""

_SEARCHED: Final = 8_000_000
"""Limit in characters on the texts of a file that are searched for patterns."""
_SECRET_KEYS: Final = re.compile(
    r"(?:[a-z_]{0,40}_)?(?:token|api_?key|password|passwd|secret|secret_key|access_key)", re.IGNORECASE
)
_LONGEST_LABELLED: Final = 1000
_PLAIN_NAME: Final = re.compile(r"[\w.]*")
_PLAIN: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz."


def searched(values: Iterable[Texts], exposure: Exposure) -> Iterator[tuple[str, str, bool]]:
    """Yield place and joined texts of all that is searched for patterns, and whether that is all of them."""
    # A name of letters, digits, dots and lines spells no path and no address, and a file holds thousands.
    other = "".join(exposure.tensors).encode("utf-8", "replace").translate(None, _PLAIN)
    odd = [] if not other else [key for key in exposure.tensors if not _PLAIN_NAME.fullmatch(key)]
    hidden = [item.text for item in exposure.hidden]
    pieces = [(place, [text for _, text in pairs]) for place, pairs in values]
    for place, more in (("the tensor names", odd), ("text that no program shows", hidden)):
        pieces.append((place, [text for text in more if picture_type(text) is None]))
    left = _SEARCHED
    for place, found in pieces:
        joined = "\n".join(found)
        yield place, joined[:left], len(joined) <= left
        left = max(0, left - len(joined))


def known_secrets(values: Iterable[Texts], exposure: Exposure) -> Iterator[tuple[str, str, Confidence]]:
    """Yield place, secret and confidence of each secret: by its shape, or by the key that it stands under."""
    values = [(place, tuple(pairs)) for place, pairs in values]
    for place, text, _ in searched(values, exposure):
        for secret in secrets(text):
            yield place, secret, Confidence.HIGH
    for place, names in (("the tensor names", exposure.tensors), ("the file name", exposure.names)):
        # Dots join the words of a tensor's name, and a token may be one of the words.
        for secret in secrets(" ".join(names).replace(".", " ")):
            yield place, secret, Confidence.HIGH
    for place, pairs in values:
        for key, text in pairs:
            bare = text.strip()
            if (
                key
                and bare not in EMPTY
                and len(bare) <= _LONGEST_LABELLED
                and _SECRET_KEYS.fullmatch(key[:80])
                and " " not in bare
            ):
                yield place, bare, Confidence.MEDIUM


def without_secrets(exposure: Exposure, known: Collection[str]) -> Exposure:
    """Mask the `known` secrets, and all that have the shape of one, in every text of `exposure`."""

    def hide(text: str) -> str:
        return mask(text, known)

    return replace(
        exposure,
        names=tuple(map(hide, exposure.names)),
        said=tuple(one._replace(text=_masked_text(one.text, known)) for one in exposure.said),
        tensors=tuple(map(hide, exposure.tensors)),
        hidden=tuple(replace(one, text=hide(one.text)) for one in exposure.hidden),
    )


def _masked_text(text: str, known: Collection[str]) -> str:
    """Mask `text`; JSON is masked text by text, for escapes may spell a secret otherwise."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            value = parse(text)
            if all(mask(inner, known) == inner for _, inner in texts(value)):
                return text
            return json.dumps(_masked_value(value, known))
        except (NotReadError, RecursionError):
            pass
    return mask(text, known)


def _masked_value(value: Any, known: Collection[str]) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return mask(value, known)
    if isinstance(value, Members):
        return {mask(key, known): _masked_value(inner, known) for key, inner in value}
    return [_masked_value(inner, known) for inner in value] if isinstance(value, list) else value
