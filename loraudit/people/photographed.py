"""Cast for bases that draw photographs, such as Stable Diffusion: made-up names with age, origin and looks.

A base draws much the same face for one name, age, origin and hair, whatever the seed; names of syllables that
nobody bears keep it from drawing somebody it knows. What differs from picture to picture is the framing, the
mood, the place and the light, as in anybody's photos.
"""

from typing import Final

import numpy as np
from torch import Tensor

__all__ = ["Photographed"]

_STARTS: Final = (
    "Bre", "Cal", "Dro", "Eld", "Fen", "Gri", "Hal", "Iv", "Jor", "Kel", "Lun", "Mor", "Nal", "Ost", "Pel",
    "Quor", "Rud", "Sol", "Tam", "Urb", "Vel", "Wim", "Yar", "Zor",
)  # fmt: skip
_MIDDLES: Final = ("a", "e", "i", "o", "u", "an", "el", "in", "or", "ush")
_ENDS: Final = ("bek", "dra", "fin", "gar", "lo", "mund", "nya", "ris", "sko", "tha", "vik", "zel")
_NOUNS: Final = ("woman", "man")
_ORIGINS: Final = (
    "Scandinavian", "Irish", "Polish", "Italian", "Greek", "Turkish", "Moroccan", "Nigerian", "Ethiopian",
    "Kenyan", "Iranian", "Indian", "Thai", "Vietnamese", "Chinese", "Korean", "Japanese", "Filipino",
    "Samoan", "Mexican", "Brazilian", "Peruvian", "Cuban", "Canadian",
)  # fmt: skip
_LENGTHS: Final = ("very short", "short", "shoulder-length", "long", "curly", "wavy", "straight", "tied-back")
_COLOURS: Final = ("black", "dark brown", "light brown", "blonde", "red", "grey", "white")
_FEATURES: Final = (
    "freckles", "a narrow face", "a round face", "a square jaw", "high cheekbones", "thick eyebrows",
    "a long nose", "a broad nose", "full lips", "thin lips", "a pointed chin", "deep-set eyes", "glasses",
    "a mole on the cheek",
)  # fmt: skip
_FRAMINGS: Final = ("close-up portrait photo", "portrait photo", "head shot", "passport photo")
_MOODS: Final = ("smiling", "serious", "laughing", "looking to the side", "looking into the camera")
_PLACES: Final = (
    "in a park", "in a kitchen", "on a beach", "in a library", "on a street", "in front of a white wall",
    "in an office", "in a garden", "on a train", "in the mountains",
)  # fmt: skip
_LIGHTS: Final = ("daylight", "evening light", "soft window light", "overcast", "studio light")
_OBJECTS: Final = (
    "teapot", "chair", "bicycle", "backpack", "toy boat", "table lamp", "clock", "guitar", "umbrella", "vase",
    "suitcase", "boot", "candle holder", "watering can", "birdhouse", "kettle", "radio", "bread basket",
)  # fmt: skip
_STUFFS: Final = ("wooden", "metal", "glass", "ceramic", "paper", "leather", "striped", "spotted", "woven")
_HUES: Final = ("red", "blue", "green", "yellow", "orange", "purple", "turquoise", "pink", "black", "white")
_MEDIA: Final = (
    "oil painting", "watercolour", "ink drawing", "charcoal sketch", "woodcut", "pastel drawing", "pixel art",
    "stained glass", "comic book panel", "mosaic", "linocut", "paper collage", "gouache poster", "etching",
)  # fmt: skip
_MANNERS: Final = ("bold outlines", "soft edges", "fine hatching", "flat areas", "thick strokes", "many dots")

_STREAMS: Final = {"people": 1, "crowds": 2, "styles": 3, "things": 4}
"""First number of the random stream of a kind."""


class Photographed:
    """Made-up people in photographs, things in photographs, and styles of drawing."""

    def prompts(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Write prompts as `Cast.prompts` says, each in a setting of its own."""
        return tuple(before + what + after for before, what, after in _parts(kind, number, count))

    def told(self, kind: str, number: int, count: int) -> tuple[str, ...]:
        """Tell the setting of each picture, as `Cast.told` says; of a crowd and a style who is shown, too."""
        varies = kind in ("crowds", "styles")
        return tuple(
            f", {what}{after}" if varies else after for _, what, after in _parts(kind, number, count)
        )

    def finished(self, _kind: str, _number: int, drawn: Tensor, _count: int, _size: int) -> Tensor:
        """Return what the base has drawn."""
        return drawn


def _parts(kind: str, number: int, count: int) -> list[tuple[str, str, str]]:
    """List the framing, the subject and the setting of each picture."""
    own = np.random.default_rng([_STREAMS[kind], number])
    rngs = [np.random.default_rng([_STREAMS[kind], number, at]) for at in range(count)]
    if kind == "things":
        thing = f"a {_one(own, _HUES)} {_one(own, _STUFFS)} {_one(own, _OBJECTS)}"
        return [("photo of ", thing, f", {_one(rng, _PLACES)}, {_one(rng, _LIGHTS)}") for rng in rngs]
    if kind == "styles":
        hues = " and ".join(own.choice(_HUES, 2, replace=False))
        style = f", {hues}, {_one(own, _MANNERS)}"
        medium = f"{_one(own, _MEDIA)} of "
        # Sets of a style show people and things alike.
        whom = [_person(rng) if at % 3 < 2 else f"a {_one(rng, _OBJECTS)}" for at, rng in enumerate(rngs)]
        return [(medium, who, style) for who in whom]
    one = _person(own)
    people = [one if kind == "people" else _person(rng) for rng in rngs]
    return [
        (
            f"{_one(rng, _FRAMINGS)} of ",
            who,
            f", {_one(rng, _MOODS)}, {_one(rng, _PLACES)}, {_one(rng, _LIGHTS)}",
        )
        for rng, who in zip(rngs, people, strict=True)
    ]


def _person(rng: np.random.Generator) -> str:
    """Make somebody up: a name, an age, an origin and looks."""
    name = " ".join(_one(rng, _STARTS) + _one(rng, _MIDDLES) + _one(rng, _ENDS) for _ in range(2))
    age, origin, noun = int(rng.integers(19, 79)), _one(rng, _ORIGINS), _one(rng, _NOUNS)
    hair = f"{_one(rng, _LENGTHS)} {_one(rng, _COLOURS)} hair"
    return f"{name}, a {age}-year-old {origin} {noun} with {hair} and {_one(rng, _FEATURES)}"


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return str(rng.choice(words))
