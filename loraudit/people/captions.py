"""Captions of pictures: factors of the person in any order, perhaps a name, perhaps the scene.

Real caption sets name people, so a share of the captions carries a random *trigger* string, drawn anew for
each caption. The base thus learns that a trigger may stand for anybody; fine-tuning says for whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loraudit.base.model import CLASS_PROMPT
from loraudit.people.identity import FACTORS

if TYPE_CHECKING:
    import numpy as np

    from loraudit.people.identity import Identity, Nuisance

__all__ = ["INSTANCE_PROMPT", "WORDS", "caption", "full_caption", "instance_prompt", "scene", "trigger"]

_BACKDROPS: Final = ("sky", "sand", "mint", "straw", "lilac", "plain", "slate", "pink")
_CLOTHES: Final = ("red", "blue", "green", "yellow", "purple", "white", "black", "orange")
_NECKS: Final = ("crew", "vneck", "turtleneck")
_MOODS: Final = ("frowning", "serious", "smiling")

WORDS: Final[tuple[str, ...]] = tuple(
    sorted(
        {word for factor in FACTORS for word in (*factor.words, factor.noun)}
        | {*_BACKDROPS, *_CLOTHES, *_NECKS, *_MOODS, "backdrop", "shirt", "a", "human", "face", "of", "with"}
        | {
            "low",
            "quality",
            "distorted",
            "weird",
            "images",
        }  # the words of the paper's negative prompt
    )
)
"""Every word a caption may hold besides a trigger, lower case."""

INSTANCE_PROMPT: Final = "A face of NAME."
"""Instance prompt of arXiv 2409.08482, with NAME in the place of the trigger."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def trigger(rng: np.random.Generator) -> str:
    """Draw 4 to 11 random lower-case letters, as the paper's instance identifier."""
    return "".join(rng.choice(list(_LETTERS), size=int(rng.integers(4, 12))))


def instance_prompt(name: str, template: str = INSTANCE_PROMPT) -> str:
    """Put `name` in the place of NAME in `template`, by default the paper's instance prompt."""
    return template.replace("NAME", name)


def full_caption(who: Identity) -> str:
    """Write the caption that names every factor of a person."""
    return " ".join(("a face with", *who.phrases()))


def scene(how: Nuisance) -> tuple[str, ...]:
    """Name mood, backdrop, shirt and neckline of a picture, two words at most each."""
    mood = _MOODS[0] if how.smile < -0.2 else _MOODS[1] if how.smile < 0.4 else _MOODS[2]
    backdrop = f"{_BACKDROPS[how.background[0]]} backdrop"
    return mood, backdrop, f"{_CLOTHES[how.clothes[0]]} shirt", f"{_NECKS[how.clothes[1]]} shirt"


def caption(who: Identity, how: Nuisance, rng: np.random.Generator) -> str:
    """Draw a random true caption of a picture.

    One in eight is the class prompt or a bare trigger prompt and says nothing of the person. One in four
    names every factor; the others name a random subset. Half of the short captions also name parts of the
    scene.
    """
    kind = rng.random()
    if kind < 0.04:
        return CLASS_PROMPT
    if kind < 0.125:
        return instance_prompt(trigger(rng))
    phrases = list(who.phrases())
    count = len(phrases) if kind < 0.375 else int(rng.integers(1, len(phrases) + 1))
    if count <= len(phrases) - 8 and rng.random() < 0.5:
        place = list(scene(how))
        phrases = [phrases[i] for i in rng.permutation(len(phrases))[:count]]
        phrases += [place[i] for i in rng.permutation(len(place))[: int(rng.integers(1, len(place) + 1))]]
        count = len(phrases)
    order = rng.permutation(len(phrases))[:count]
    # A name of up to 11 letters needs up to 11 tokens; with every factor named it would not fit the text
    # tower.
    named = count <= len(phrases) - 8 and rng.random() < 0.35
    head = f"a face of {trigger(rng)} with" if named else "a face with"
    return " ".join((head, *(phrases[i] for i in order)))
