"""Secrets in what a LoRA's files say: found before any other rule looks, and masked for all of them."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from loraudit.findings.finding import Confidence
from loraudit.hiding import mask, secrets
from loraudit.metadata.beside import FOLDER, Said
from loraudit.metadata.entries import value_of
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.kinds import is_machine, kind_of, spelled
from loraudit.metadata.nested import Members, NotReadError, read, texts
from loraudit.metadata.patterns import picture_type
from loraudit.metadata.quotes import EMPTY
from loraudit.metadata.tokens import LONGEST_NAME, odd_names
from loraudit.metadata.wrapped import unwrapped

__all__ = ["Texts", "known_secrets", "searched", "secrets_in", "secrets_of", "without_secrets"]

_NO_SECRETS: Final = frozenset({*(word.lower() for word in EMPTY), "true", "false"})
Texts = tuple[str, Iterable[tuple[str, str]]]
"""Place, and the texts there that are no pictures, each with its key."""

_SEARCHED: Final = 8_000_000
"""Limit in characters on the texts of a file that are searched for patterns."""
_SECRET_KEY: Final = re.compile(
    r"(?:\w*_)?(?:token|(?:api_?|access_|secret_|private_|ssh_|encryption_|hf_|hub_|wandb_|civitai_|openai_)key|"
    r"passw(?:or)?d|passphrase|passcode|pwd|secret|auth|authorization|bearer|credentials?|creds|cookies?)"
    r"(?:_(?:hf|hub|huggingface|wandb|civitai|value))?"
)
_PASSWORD_KEY: Final = re.compile(r"(?:\w*_)?(?:passw(?:or)?d|passphrase)")
"""Key of what may hold spaces."""
_WORD_KEY: Final = re.compile(
    r"(?:\w*_)?(?:bos|class|cls|end|eos|image|initiali[sz]er|mask|modifier|new|pad|sep|special|start|stop|unk)_token"
)
"""Key of a word that tokenizers and trainers call a token."""
_LONGEST_LABELLED: Final = 1000


def searched(values: Iterable[Texts], exposure: Exposure) -> Iterator[tuple[str, str, bool]]:
    """Yield place and joined texts of all that is searched for patterns, and whether that is all of them."""
    odd = odd_names(exposure.tensors)  # a plain name spells no path and no address
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
    beside = exposure.beside
    for place, names in (
        ("the tensor names", exposure.tensors),
        ("the file name", exposure.names),
        (FOLDER, (*beside.pictures, *beside.archives, *beside.pickles)),
    ):
        # Dots join the words of a tensor's name, and a token may be one of the words.
        words = dict.fromkeys(
            word for name in names for word in (name.split(".") if len(name) <= LONGEST_NAME else (name,))
        )
        for secret in secrets(" ".join(words)):
            yield place, secret, Confidence.HIGH
    for place, pairs in values:
        for key, text in pairs:
            bare = text.strip()
            if bare.lower() not in _NO_SECRETS and len(bare) <= _LONGEST_LABELLED and _is_label(key, bare):
                yield place, bare, Confidence.MEDIUM


def _is_label(key: str, text: str) -> bool:
    """Tell whether a `text` under `key` is a secret; `trigger_token` holds a word of a prompt."""
    if not key or kind_of(key):
        return False
    name = spelled(key)
    labels = _SECRET_KEY.fullmatch(name) is not None and _WORD_KEY.fullmatch(name) is None
    return labels and (" " not in text or _PASSWORD_KEY.fullmatch(name) is not None)


def secrets_in(exposure: Exposure) -> tuple[str, ...]:
    """List every secret in `exposure` once: by its shape, or by the key that it stands under."""
    values = [value_of(said) for said in exposure.said if said.text.strip() not in EMPTY]
    texts = [(one.place, [pair for pair in one.texts if pair[1] not in one.pictures]) for one in values]
    return tuple(dict.fromkeys(secret for _, secret, _ in known_secrets(texts, exposure)))


def secrets_of(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """List every secret in the metadata of a header once."""
    said = tuple(Said("header", key, text) for key, text in metadata.items())
    return secrets_in(Exposure((), said, (), (), 0))


def without_secrets(exposure: Exposure, known: Collection[str]) -> Exposure:
    """Mask the `known` secrets, and all that have the shape of one, in every text of `exposure`."""

    def hide(text: str) -> str:
        return mask(text, known)

    beside = exposure.beside
    return replace(
        exposure,
        names=tuple(map(hide, exposure.names)),
        beside=beside._replace(
            pictures=tuple(map(hide, beside.pictures)),
            archives=tuple(map(hide, beside.archives)),
            pickles=tuple(map(hide, beside.pickles)),
        ),
        said=tuple(_masked_said(one, known) for one in exposure.said),
        tensors=tuple(map(hide, exposure.tensors)),
        hidden=tuple(replace(one, text=hide(one.text)) for one in exposure.hidden),
    )


def _masked_said(said: Said, known: Collection[str]) -> Said:
    # Elsewhere than in the header, the reader itself names the keys.
    key = _masked_key(said.key, known) if said.place == "header" else said.key
    return said._replace(key=key, text=_masked_text(said.text, known))


def _masked_text(text: str, known: Collection[str]) -> str:
    """Mask `text`; JSON, and JSON in it, is masked text by text: escapes spell a secret otherwise."""
    bare = unwrapped(text)
    if bare[:1] in {"{", "["}:
        try:
            value = read(bare)
            if all(mask(inner, known) == inner for _, inner in texts(value)):
                return text
            return "".join(_written(value, known))
        except (NotReadError, RecursionError):
            pass
    hidden = mask(bare, known)
    return text if hidden == bare else hidden


def _written(value: Any, known: Collection[str]) -> Iterator[str]:  # noqa: ANN401
    """Yield the JSON of the masked `value` in pieces; names given twice stay."""
    if isinstance(value, list):
        start, end = "{}" if isinstance(value, Members) else "[]"
        yield start
        for number, item in enumerate(value):
            yield "," if number else ""
            inner = item
            if isinstance(value, Members):
                inner = item[1]
                yield f"{json.dumps(_masked_key(item[0], known))}:"
            yield from _written(inner, known)
        yield end
    else:
        yield json.dumps(mask(value, known) if isinstance(value, str) else value)


def _masked_key(key: str, known: Collection[str]) -> str:
    """Mask `key`, but none of a trainer: `name` stays what it is where a secret is called so."""
    # Few files hold a secret, and each scan pays for what it loads.
    from loraudit.metadata.keys import is_known_key

    return key if kind_of(key) or is_machine(key) or is_known_key(key) else mask(key, known)
