"""Fit the reader of a probe encoder: ridge regression from a LoRA's updates to the person's face vector.

The probes of a module are the principal directions of the updates' columns and rows, the first step of a
higher-order SVD (https://doi.org/10.1137/S0895479896305696). Few probes thus keep most of an update. The
regression is in its dual form, since a LoRA has far more views than a zoo has LoRAs.

A regression reads the LoRAs of its own fit far too well. The encoder's answer is therefore learned from
readings of held-out people: the people are cut into `FOLDS` parts, and each part is read by a regression
fitted to the others.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from loraudit.base.lowrank import Terms
from loraudit.encoder.probe import ProbeEncoder
from loraudit.runs import OnStep, unheard
from loraudit.training.zoo import Zoo

__all__ = ["FOLDS", "fit_reader"]

FOLDS: Final = 8
"""Parts of the people, each read by a regression fitted to the others."""
PENALTY: Final = 0.1
"""Ridge penalty relative to the mean squared norm of the views; 0.03 to 3 reads about as well."""


@torch.no_grad()
def fit_reader(
    encoder: ProbeEncoder, zoos: Sequence[Zoo], faces: Sequence[Tensor], on_step: OnStep = unheard
) -> list[Tensor]:
    """Fit `encoder` in place to all snapshots of `zoos`; `faces [members, e]` are unit face vectors.

    `on_step` hears how many passes of the zoos are read, then how many of `FOLDS` parts. Returns for each zoo
    the readings of its members by regressions fitted without them, unit vectors `[members, snapshots, e]`.
    """
    groups = [
        (zoo, first, step)
        for zoo in zoos
        for step in zoo.plan.snapshots
        for first in range(0, len(zoo.members), zoo.plan.people_per_pass)
    ]
    _fit_probes(encoder, (_terms(encoder, *group) for group in groups))
    views, people = [], []
    offsets = torch.tensor([0, *(len(zoo.members) for zoo in zoos)]).cumsum(0).tolist()
    for number, (zoo, first, step) in enumerate(groups):
        on_step(number, len(groups), "reading the zoo")
        found, norms = encoder.views(_terms(encoder, zoo, first, step))
        views.append(encoder.scaled(found, norms).flatten(1))
        start = offsets[list(zoos).index(zoo)] + first
        people.append(torch.arange(start, start + len(found)))
    x, who = torch.cat(views), torch.cat(people)
    y = torch.cat(list(faces)).to(x)
    _fit_regression(encoder, x, y[who])
    fold = _folds(zoos)[who]
    told = torch.zeros(len(x), y.shape[1]).to(x)
    gram = x @ x.T
    for part in range(FOLDS):
        on_step(part, FOLDS, "reading people who are left out")
        seen, new = fold != part, fold == part
        if new.any():
            weights = _dual(gram[seen][:, seen], y[who[seen]] - encoder.mean_face)
            told[new] = (gram[new][:, seen] - gram[seen][:, seen].mean(0)) @ weights
    on_step(FOLDS, FOLDS, "reading people who are left out")
    told = F.normalize(told @ encoder.basis.T @ encoder.basis, dim=1)
    return _by_zoo(told, who, zoos, offsets)


def _terms(encoder: ProbeEncoder, zoo: Zoo, first: int, step: int) -> Terms:
    """Read a pass of a zoo onto the encoder's device."""
    device = encoder.left.device
    return {site: (up.to(device), down.to(device)) for site, (up, down) in zoo.terms(first, step).items()}


def _folds(zoos: Sequence[Zoo]) -> Tensor:
    """Assign every member to a part of the people; all LoRAs of a person are in one."""
    people = [member.identity for zoo in zoos for member in zoo.members]
    places = {person: at for at, person in enumerate(dict.fromkeys(people))}
    return torch.tensor([places[person] % FOLDS for person in people])


def _fit_probes(encoder: ProbeEncoder, parts: Iterable[Terms]) -> None:
    """Fit the probes of every site to all `parts`, of which one is in memory at a time."""
    sizes = {site: (out, in_) for site, out, in_ in encoder.config.sites}
    scatters: dict[str, tuple[Tensor, Tensor]] = {}
    for terms in parts:
        for site in (site for site in sizes if site in terms):
            up, down = terms[site]
            update = up @ down
            update = update / update.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
            if site not in scatters:
                rows, columns = (encoder.left.new_zeros(size, size) for size in sizes[site])
                scatters[site] = rows, columns
            scatters[site][0].add_(torch.einsum("mij,mkj->ik", update, update))
            scatters[site][1].add_(torch.einsum("mij,mik->jk", update, update))
    for (site, out, in_), left, right in zip(encoder.config.sites, *encoder.probes(), strict=True):
        found = scatters.pop(site, None) or tuple(encoder.left.new_zeros(size, size) for size in (out, in_))
        for probes, scatter in zip((left, right), found, strict=True):
            directions = torch.linalg.eigh(scatter)[1].flip(1)[:, : encoder.config.probes]
            probes[:, : directions.shape[1]] = directions


def _fit_regression(encoder: ProbeEncoder, x: Tensor, y: Tensor) -> None:
    """Fit a regression from `x [n, sites p^2]` to the principal components of `y [n, e]`."""
    encoder.mean_face.copy_(y.mean(0))
    spread = y - y.mean(0)
    directions = torch.linalg.svd(spread, full_matrices=False).Vh[: encoder.config.components]
    encoder.basis.zero_()[: len(directions)] = directions
    weights = x.T @ _dual(x @ x.T, spread @ encoder.basis.T)
    encoder.centre.copy_(x.mean(0) @ weights)
    encoder.reader.copy_(weights.view_as(encoder.reader))


def _dual(gram: Tensor, y: Tensor) -> Tensor:
    """Solve ridge regression on centred views with the Gram matrix `gram`: dual weights `[n, ...]`."""
    n = len(gram)
    centring = torch.eye(n).to(gram) - 1 / n
    centred = centring @ gram @ centring
    damped = centred + PENALTY * centred.diag().mean() * torch.eye(n).to(gram)
    weights: Tensor = centring @ torch.linalg.solve(damped, y)
    return weights


def _by_zoo(told: Tensor, who: Tensor, zoos: Sequence[Zoo], offsets: Sequence[int]) -> list[Tensor]:
    order: dict[int, list[int]] = {}
    for row, person in enumerate(who.tolist()):
        order.setdefault(person, []).append(row)  # snapshots ascend within a person
    found = []
    for zoo, start in zip(zoos, offsets[:-1], strict=True):
        rows = [order[start + i] for i in range(len(zoo.members))]
        found.append(told[torch.tensor(rows)])
    return found
