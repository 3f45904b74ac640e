"""The rows of an attack table: an embedding, the model that it goes into, and the guidance of the sampling.

Every row costs two noise predictions a step, by either guidance. The cost of a search comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from loraudit.attacks.plan import draw
from loraudit.attacks.prompts import ANY_NAME
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.model import CLASS_PROMPT, Base, Sampling
from loraudit.encoder import PaperEncoder
from loraudit.lora import Factors, LoRA, LoRAFile
from loraudit.people.captions import instance_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from loraudit.attacks.aim import Attack
    from loraudit.base.lowrank import Terms
    from loraudit.encoder import Encoder

__all__ = ["Condition", "as_lora", "conditions", "refactorised", "thinned"]

BY_GUIDANCE = ", model guidance"


@dataclass(frozen=True, eq=False)
class Condition:
    """One row of the table, for `M` LoRAs."""

    name: str
    role: str
    """`bound`, `attack`, `baseline`, `ablation` or `control`."""
    embedding: Tensor
    """Embeddings `[M, L, d]`, one per LoRA."""
    against_base: bool = False
    """True: model guidance. False: classifier-free guidance."""
    base_only: bool = False
    """True: the base model draws, without the LoRA."""
    searched: int = 0
    """Evaluations of the UNet to find the embedding of one LoRA."""

    def shoot(self, tuned: Base, base: Base, seeds: Sequence[int], settings: Sampling) -> Tensor:
        """Draw pictures `[M * K, 3, H, W]` of the `M` LoRAs of `tuned` with `K` seeds."""
        if self.base_only:
            return base.sample(self.embedding, seeds, settings)
        return draw(tuned, base, self.embedding, seeds, settings, self.against_base)


@torch.no_grad()
def conditions(
    tuned: Base,
    base: Base,
    prompts: Sequence[str],
    encoders: Mapping[str, Encoder],
    constant: Tensor | None,
    finders: Sequence[Attack] = (),
) -> list[Condition]:
    """Make all rows for the LoRAs of `tuned` with the secret `prompts`.

    Ablations and controls take their embedding from the search, which starts from the last of `encoders` if
    that is a probe encoder. `constant` is an embedding `[L, d]`. `finders` are attacks that take one LoRA at
    a time.
    """
    count, terms = len(prompts), tuned.terms
    plain = base.encode_text(prompts)
    trigger, any_name, class_prompt, empty = (
        tuned.encode_text(list(words))
        for words in (prompts, [instance_prompt(ANY_NAME)] * count, [CLASS_PROMPT] * count, [""] * count)
    )
    rows = [
        *_both("true trigger", "bound", trigger),
        *_both("any name", "baseline", any_name),
        *_both("class prompt", "baseline", class_prompt),
        Condition("no trigger", "baseline", empty),
        Condition("true trigger in the base", "control", plain, base_only=True),
    ]
    if constant is not None:
        rows += _both("constant embedding", "baseline", constant.expand(count, -1, -1))
    other = refactorised(terms, seed=1)
    answer, guided = trigger, False
    encoder: Encoder | None = None
    for name, encoder in encoders.items():
        answer, guided = encoder(terms)[0], not isinstance(encoder, PaperEncoder)
        rows.append(Condition(name, "attack", answer, against_base=guided))
        rows.append(Condition(f"{name}, re-factorised", "ablation", encoder(other)[0], against_base=guided))
        if guided:
            rows.append(Condition(f"{name}, without model guidance", "ablation", answer))
            for keep, unread in ((2, "half"), (4, "three quarters")):
                told = encoder(thinned(terms, keep))[0]
                rows.append(Condition(f"{name}, {unread} of the modules unread", "ablation", told, True))
        else:
            rows.append(Condition(name + BY_GUIDANCE, "ablation", answer, against_base=True))
    search = SearchAttack()
    found_best = search.best(tuned, base)
    rows.append(Condition("search", "attack", found_best.embeddings, True, searched=found_best.evaluations))
    if guided and encoder is not None:
        found_best = search.best(tuned, base, answer)
        row = Condition("search, from the encoder", "attack", found_best.embeddings, True)
        rows.append(replace(row, searched=found_best.evaluations))
        again = search.best(base.with_lora(other), base, encoder(other)[0])
        rows.append(
            replace(row, name=f"{row.name}, re-factorised", role="ablation", embedding=again.embeddings)
        )
    answer, guided = found_best.embeddings, True
    rows.append(Condition("search, without model guidance", "ablation", answer))
    for finder in finders:
        found = [finder.aims(as_lora(terms, row), base)[0] for row in range(count)]
        rows.append(
            Condition(
                finder.name,
                "attack",
                torch.stack([aim.embedding for aim in found]),
                found[0].against_base,
                searched=found[0].evaluations,
            )
        )
    return [
        *rows,
        Condition("another LoRA's embedding", "ablation", answer.roll(-1, 0), guided),
        Condition("this embedding in the base", "control", answer, base_only=True),
        Condition("random embedding", "control", _random_like(plain)),
        Condition("random embedding, model guidance", "baseline", _random_like(plain), guided),
    ]


def _both(name: str, role: str, embedding: Tensor) -> list[Condition]:
    return [
        Condition(name, role, embedding),
        Condition(name + BY_GUIDANCE, role, embedding, against_base=True),
    ]


def thinned(terms: Terms, keep: int) -> Terms:
    """Keep one in `keep` of the UNet's modules, at random, and the whole text tower."""
    unet = sorted(site for site in terms if site.startswith("unet."))
    order = torch.randperm(len(unet), generator=torch.Generator().manual_seed(3)).tolist()
    kept = {unet[i] for i in order[: max(1, len(unet) // keep)]}
    return {site: pair for site, pair in terms.items() if site in kept or not site.startswith("unet.")}


def refactorised(terms: Terms, seed: int) -> Terms:
    """Write the same updates with other factors: `B G` and `G^-1 A`, one random `G` per LoRA."""
    generator = torch.Generator().manual_seed(seed)
    changed = {}
    for site, (up, down) in sorted(terms.items()):
        count, rank = len(up), up.shape[2]
        g = torch.linalg.qr(torch.randn(count, rank, rank, generator=generator))[0].to(up)
        g = g * (0.5 + torch.rand(count, 1, rank, generator=generator)).to(up)
        changed[site] = (up @ g, torch.linalg.solve(g, down))
    return changed


def as_lora(terms: Terms, row: int, name: str = "zoo") -> LoRA:
    """Wrap LoRA `row` of `terms` as if read from a file without metadata."""
    factors = {
        site: Factors(up[row].cpu().numpy(), down[row].cpu().numpy(), 1.0)
        for site, (up, down) in terms.items()
    }
    return LoRA(LoRAFile(name, Path(name), "", 0, {}), "", None, "diffusers", factors, ())


def _random_like(embedding: Tensor) -> Tensor:
    """Draw Gaussian noise with the mean and spread of real embeddings, channel by channel, anew per LoRA."""
    noise = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(5))
    return embedding.mean((0, 1)) + embedding.std((0, 1)) * noise.to(embedding)
