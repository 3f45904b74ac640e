"""What trainings of encoders are tested with: a zoo of three people, both sources, both models."""

import torch

from loraudit.people.sources import People, Synthetic
from loraudit.training.encoder_settings import Settings
from loraudit.training.finetune import Recipe
from loraudit.training.latents import Latents
from loraudit.training.samples import LiveSource, ZooSource
from loraudit.training.train_encoder import new_constant, new_encoder
from loraudit.training.zoo import build_zoo
from loraudit.training.zoo_plan import Plan, members_of
from tests.tiny import tiny_base

RECIPE = Recipe(rank=2, lr=2e-2, steps=4, class_images=2)
SETTINGS = Settings(steps=10, loras=2, lr=1e-2, save_every=3)


def prior() -> torch.Tensor:
    return torch.randn(4, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(9))


def zoo_in(folder):
    """Three people, two to a pass, saved twice."""
    plan = Plan((0, 4, 8), RECIPE, (2, 4), people_per_pass=2)
    return build_zoo(tiny_base(), folder, plan, prior())


def latents_of(people: People | None = None) -> Latents:
    return Latents(tiny_base(), people or Synthetic())


def source_of(kind: str, zoo, seed: int = 0, finished_only: bool = False):
    if kind == "zoo":
        return ZooSource.of(zoo, latents_of(), seed, 2, finished_only)
    members = members_of(Plan((0, 4, 8), RECIPE, (4,)))
    return LiveSource(members, latents_of(), RECIPE, prior(), 2, seed, finished_only)


def model_of(kind: str, seed: int = 0, timestep: bool = True):
    if kind == "constant":
        return new_constant(tiny_base(), "A human face.")
    terms = {
        site: (torch.zeros(1, *site_shape[:1], 2), torch.zeros(1, 2, site_shape[1]))
        for site, site_shape in (
            (s, m.weight.shape) for s, m in tiny_base().modules().items() if s.endswith(("to_q", "to_v"))
        )
    }
    return new_encoder(tiny_base(), terms, timestep, RECIPE.steps, seed)


def equal(one, two) -> bool:
    a, b = one.own_state(), two.own_state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
