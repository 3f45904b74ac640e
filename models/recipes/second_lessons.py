"""Pictures of one LoRA of the second trainer, and the caption of each, for every kind of LoRA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loraudit.people.captions import instance_prompt, scene, trigger
from loraudit.people.identity import FACTORS, SPLITS, identity, nuisance, split_of
from loraudit.people.sources import REFERENCES, Synthetic
from loraudit.people.things import SOURCES, Crowds
from loraudit.training.zoo_plan import Member
from models.recipes.second_recipes import LETTERS, NAMES, SecondRecipe

__all__ = ["KINDS", "Shown", "partner", "shown_by", "template_of", "trigger_of"]

PEOPLE: Final = "people"
COUPLES: Final = "couples"
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        PEOPLE: Synthetic.name,
        COUPLES: Synthetic.name,
        "crowds": "crowds",
        "things": "things",
        "styles": "styles",
    }
)
"""Kind of LoRA -> name in `loraudit.people.things.SOURCES` of what its pictures show.

A couple's LoRA holds two people, each under a prompt of its own; the zoo names the first.
"""
_NOUNS: Final[Mapping[str, str]] = MappingProxyType(
    {"crowds": "people", "things": "object", "styles": "style"}
)
_SEEN: Final = frozenset({"hair", "style", "beard", "glasses"})
"""Factors that a captioning model names."""
_SYLLABLES: Final = tuple(f"{a}{b}" for a in "bdfgklmnrstv" for b in "aeiou")
_SECOND_WORD: Final = "zwx"
"""Trigger of a couple's second person where every LoRA has the same trigger."""
_APART: Final = 60_001
"""Distance of a couple's second person from the first, of another family."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures of one LoRA with their captions."""

    pictures: Tensor
    """Float `[P, 3, S, S]` in 0..1."""
    captions: Sequence[tuple[str, ...]]
    """Parts of each picture's caption; the first is the instance prompt."""


def template_of(recipe: SecondRecipe, kind: str) -> str:
    """Return the instance prompt of the recipe for a kind, with NAME in the place of the trigger."""
    return recipe.template.replace("NOUN", _NOUNS.get(kind, recipe.noun))


def trigger_of(recipe: SecondRecipe, person: int, seed: int) -> str:
    """Draw the trigger of a person: letters, or a first and a last name such as "melina darvo"."""
    rng = np.random.default_rng([seed, 50, person])
    if recipe.trigger == LETTERS:
        return trigger(rng)
    if recipe.trigger == NAMES:
        return " ".join("".join(rng.choice(_SYLLABLES, size=rng.integers(2, 4))) for _ in range(2))
    return recipe.trigger


def partner(person: int) -> int:
    """Return the second person of the couple whose first is `person`, of the same split."""
    seeds = SPLITS[split_of(person)]
    return seeds[(person - seeds.start + _APART) % len(seeds)]


def shown_by(member: Member, kind: str, recipe: SecondRecipe, seed: int, size: int) -> Shown:
    """Draw the pictures of a LoRA of a zoo with `seed`, at `size` pixels, and write their captions."""
    source = SOURCES[KINDS[kind]](split_of(member.identity))
    pictures = source.pictures(member.identity, size, recipe.pictures)
    captions = _captions(member.identity, member.prompt, source, recipe, len(pictures))
    if kind == COUPLES:
        other = partner(member.identity)
        own = recipe.trigger in {LETTERS, NAMES}
        name = trigger_of(recipe, other, seed) if own else _SECOND_WORD
        prompt = instance_prompt(name, member.template)
        pictures = torch.cat([pictures, source.pictures(other, size, recipe.pictures)])
        captions += _captions(other, prompt, source, recipe, recipe.pictures)
    if recipe.flip:
        return Shown(torch.cat([pictures, pictures.flip(3)]), captions * 2)
    return Shown(pictures, captions)


def _captions(
    person: int, prompt: str, source: object, recipe: SecondRecipe, count: int
) -> list[tuple[str, ...]]:
    if isinstance(source, Crowds):
        seen = [(who, 0) for who in source.people(person)[:count]]
    elif isinstance(source, Synthetic):
        # No LoRA is made of the reference photos.
        numbers = [n for n in range(count + len(REFERENCES)) if n not in REFERENCES][:count]
        seen = [(person, number) for number in numbers]
    else:
        seen = []
    if recipe.captions == "none" or not seen:
        return [(prompt,)] * count
    return [(prompt, *_looks(who, recipe), *scene(nuisance(who, number))) for who, number in seen]


def _looks(person: int, recipe: SecondRecipe) -> tuple[str, ...]:
    if recipe.captions != "all":
        return ()
    values = identity(person).values
    return tuple(factor.phrase(values[factor.name]) for factor in FACTORS if factor.name in _SEEN)
