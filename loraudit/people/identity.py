"""Synthetic people: identities, the differences between pictures of one person, and splits by use.

An *identity* is 24 factors that never change between two pictures of one person (skin, hair, head, jaw,
eyes, brows, nose, mouth, beard, glasses ...); a *nuisance* is 14 factors that change with every picture
(pose, expression, gaze, clothes, background, light, noise). Both are pure functions of integer seeds, so
the population is unlimited and holds no real person.

Look-alikes are built in: the four seeds `4k .. 4k+3` form a family that shares skin, hair colour and hair
style and draws every other factor anew. A face model that reads colour instead of shape therefore fails
inside a family.

Identities are split once and for all by seed range (`SPLITS`): `public-train` may be used by the base, the
face model, CLIP and the encoder; `public-validation` tunes those models; `private` is held out from all of
them and supplies the targets of attacks; `control` is held out as well and supplies other people's LoRAs.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FACTORS",
    "FAMILY",
    "SPLITS",
    "Factor",
    "Identity",
    "Nuisance",
    "identity",
    "nuisance",
    "split_of",
]

FAMILY: Final = 4
"""Seeds per family of look-alikes."""

SPLITS: Final[Mapping[str, range]] = MappingProxyType(
    {
        "public-train": range(100_000),
        "public-validation": range(100_000, 200_000),
        "private": range(200_000, 300_000),
        "control": range(300_000, 400_000),
    }
)

_IDENTITY_STREAM, _FAMILY_STREAM, _NUISANCE_STREAM = 1, 2, 3


@dataclass(frozen=True)
class Factor:
    """One feature by which people differ."""

    name: str
    """Key in `Identity.values`."""
    noun: str
    """Noun in a caption: `jaw` in "square jaw"."""
    words: tuple[str, ...]
    """Adjectives, in the order of the value; a caption names the value's bin."""
    kinds: bool = False
    """True: the value is the index of a kind, such as a hair style. False: the value is in 0..1, and its bin
    of equal width has the word.
    """
    family: bool = False
    """True: shared by a family of look-alikes."""

    def phrase(self, value: float) -> str:
        """Name `value` in two words, e.g. "square jaw"."""
        index = int(value) if self.kinds else min(int(value * len(self.words)), len(self.words) - 1)
        return f"{self.words[index]} {self.noun}"


FACTORS: Final[tuple[Factor, ...]] = (
    Factor("skin", "skin", ("pale", "fair", "tan", "olive", "brown", "dark"), family=True),
    Factor(
        "hair",
        "hair",
        ("black", "brown", "blonde", "red", "grey", "white", "orange", "blue"),
        kinds=True,
        family=True,
    ),
    Factor(
        "style",
        "cut",
        ("bald", "short", "spiky", "parted", "curly", "bob", "long", "bun"),
        kinds=True,
        family=True,
    ),
    Factor("head_width", "head", ("narrow", "slim", "medium", "broad")),
    Factor("face_length", "face", ("short", "compact", "tall", "long")),
    Factor("jaw", "jaw", ("pointed", "oval", "round", "square")),
    Factor("eye_size", "eyes", ("tiny", "small", "large", "huge")),
    Factor("eye_spacing", "spacing", ("close", "near", "wide", "far")),
    Factor("eye_slant", "slant", ("drooping", "falling", "level", "rising")),
    Factor("iris", "iris", ("blue", "green", "amber", "brown", "black"), kinds=True),
    Factor("brow_weight", "brows", ("faint", "thin", "thick", "bushy")),
    Factor("brow_tilt", "tilt", ("sad", "soft", "stern", "angry")),
    Factor("brow_height", "browline", ("low", "middle", "raised", "high")),
    Factor("nose_length", "nose", ("short", "medium", "long", "huge")),
    Factor("nose_width", "nostrils", ("narrow", "slim", "broad", "wide")),
    Factor("mouth_width", "mouth", ("tiny", "small", "wide", "huge")),
    Factor("lips", "lips", ("thin", "soft", "full", "thick")),
    Factor("mouth_height", "mouthline", ("high", "raised", "middle", "low")),
    Factor("ears", "ears", ("tiny", "small", "large", "huge")),
    Factor("hairline", "hairline", ("low", "middle", "raised", "high")),
    Factor("beard", "beard", ("no", "stubble", "moustache", "goatee", "full"), kinds=True),
    Factor("glasses", "glasses", ("no", "round", "square", "dark"), kinds=True),
    Factor("freckles", "cheeks", ("clear", "freckled", "rosy"), kinds=True),
    Factor("mole", "mole", ("no", "left", "right", "chin"), kinds=True),
)

# Most people have no beard, glasses, freckles or mole; a uniform draw would make them the whole identity.
_KIND_WEIGHTS: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "beard": (0.44, 0.12, 0.14, 0.14, 0.16),
        "glasses": (0.55, 0.18, 0.18, 0.09),
        "freckles": (0.5, 0.25, 0.25),
        "mole": (0.52, 0.16, 0.16, 0.16),
    }
)


@dataclass(frozen=True)
class Identity:
    """Identity of a synthetic person."""

    seed: int
    values: Mapping[str, float]
    """Factor name -> number in 0..1, or the index of a kind."""

    def phrases(self) -> tuple[str, ...]:
        """Name every factor in two words, in the order of `FACTORS`."""
        return tuple(factor.phrase(self.values[factor.name]) for factor in FACTORS)


@dataclass(frozen=True)
class Nuisance:
    """Differences between two pictures of one person. Lengths are in pixels of a 64-pixel picture."""

    shift_x: float
    shift_y: float
    roll: float
    """Rotation of the head, radians."""
    scale: float
    yaw: float
    """Sideways shift of the features across the head, pixels."""
    smile: float
    """Curve of the mouth, -1 (frown) .. 1 (smile)."""
    mouth_open: float
    """Gap between the lips, 0 .. 1."""
    brow_raise: float
    """Upward shift of the brows, pixels."""
    gaze: tuple[float, float]
    """Pupil offset, fraction of the iris' freedom, -1 .. 1 each."""
    background: tuple[int, float]
    """Index of a colour, and its lightness shift in -1 .. 1."""
    clothes: tuple[int, int]
    """Index of a colour, and of a neckline."""
    light: tuple[float, float]
    """Direction in radians, strength 0 .. 1."""
    warmth: float
    """Tint of the light, -1 (cold) .. 1 (warm)."""
    noise: float
    """Standard deviation of the sensor noise, grey levels of 255."""


def identity(seed: int) -> Identity:
    """Draw the person with this seed, `seed >= 0`."""
    own = np.random.default_rng([_IDENTITY_STREAM, seed])
    family = np.random.default_rng([_FAMILY_STREAM, seed // FAMILY])
    values: dict[str, float] = {}
    for factor in FACTORS:
        rng = family if factor.family else own
        if factor.kinds:
            values[factor.name] = float(rng.choice(len(factor.words), p=_KIND_WEIGHTS.get(factor.name)))
        else:
            values[factor.name] = float(rng.random())
    return Identity(seed, MappingProxyType(values))


def nuisance(identity_seed: int, picture_seed: int) -> Nuisance:
    """Draw the nuisance of picture number `picture_seed` of a person."""
    rng = np.random.default_rng([_NUISANCE_STREAM, identity_seed, picture_seed])
    return Nuisance(
        shift_x=float(rng.uniform(-2.0, 2.0)),
        shift_y=float(rng.uniform(-1.5, 1.5)),
        roll=float(rng.uniform(-0.12, 0.12)),
        scale=float(rng.uniform(0.95, 1.05)),
        yaw=float(rng.uniform(-1.6, 1.6)),
        smile=float(rng.uniform(-0.8, 1.0)),
        mouth_open=float(max(0.0, rng.uniform(-1.0, 1.0))),
        brow_raise=float(rng.uniform(-0.7, 0.7)),
        gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        background=(int(rng.integers(8)), float(rng.uniform(-1, 1))),
        clothes=(int(rng.integers(8)), int(rng.integers(3))),
        light=(float(rng.uniform(0, 2 * np.pi)), float(rng.random())),
        warmth=float(rng.uniform(-1, 1)),
        noise=float(rng.uniform(0.0, 3.0)),
    )


def split_of(seed: int) -> str:
    """Return the name of the split that owns an identity seed. Raises `ValueError` if none does."""
    for name, seeds in SPLITS.items():
        if seed in seeds:
            return name
    raise ValueError(f"identity seed {seed} belongs to no split")
