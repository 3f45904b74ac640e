r"""Every attack on private LoRAs beside its upper bound, its cheapest rivals and its negative controls.

Every condition is an embedding put into a LoRA (or into the base), sampled with the same seeds and settings
and judged by `loraudit.bench.panel`. `loraudit bench attacks` makes the table.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from loraudit.bench.conditions import conditions
from loraudit.bench.panel import GALLERY, Interval, Panel, Row, Seen
from loraudit.errors import LorauditError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from loraudit.attacks.aim import Attack
    from loraudit.base.model import Base, Sampling
    from loraudit.encoder import Encoder
    from loraudit.runs import Run
    from loraudit.training.zoo import Zoo

__all__ = ["attack_table", "markdown"]

_ORDER = ("bound", "attack", "baseline", "ablation", "control")
_SWAPPED = "another LoRA's embedding"


def attack_table(
    base: Base,
    zoo: Zoo,
    encoders: Mapping[str, Encoder],
    constant: Tensor | None,
    seeds: Sequence[int],
    settings: Sampling,
    report: Callable[[str], None],
    gallery: int = GALLERY,
    finders: Sequence[Attack] = (),
    step: int | None = None,
    people: int | None = None,
    run: Run | None = None,
) -> list[Row]:
    """Measure every row of `conditions` over the first `people` of `zoo` at a saved `step`.

    The default is everybody, at the last step. The folder of `run` keeps what the panel sees of each pass of
    the zoo, so that no pass is drawn twice. Raises `LorauditError` if a kept file cannot be read.
    """
    report("drawing references and gallery")
    members = zoo.members[:people]
    panel = Panel.of([member.identity for member in members], gallery)
    size = zoo.plan.people_per_pass
    parts: list[_Part] = []
    for first in range(0, len(members), size):
        name = f"pass-{first:04d}.safetensors"
        if run is not None and (run.folder / name).exists():
            parts.append(_read(run.folder / name))
            continue
        group = members[first : first + size]
        whole = zoo.terms(first, step or zoo.plan.snapshots[-1])
        terms = {site: (up[: len(group)], down[: len(group)]) for site, (up, down) in whole.items()}
        tuned = base.with_lora(terms)
        part: _Part = {}
        for condition in conditions(tuned, base, [m.prompt for m in group], encoders, constant, finders):
            report(f"LoRAs {first + 1} to {first + len(group)} of {len(members)}: {condition.name}")
            shots = condition.shoot(tuned, base, seeds, settings)
            pictures = shots.view(len(group), len(seeds), *shots.shape[1:])
            cost = condition.searched + len(seeds) * settings.steps * (1 if settings.guidance == 1 else 2)
            part[condition.name] = (condition.role, cost, panel.look(pictures))
        if run is not None:
            run.keep(name, partial(_write, part))
        parts.append(part)
    everybody = torch.arange(len(members))
    # Owners of the swapped embeddings: each LoRA got that of the next in its pass.
    swapped = torch.cat([first + (torch.arange(n) + 1) % n for first, n in _passes(len(members), size)])
    joined = {name: Seen.joined([part[name][2] for part in parts]) for name in parts[0]}
    attacks = [
        panel.accepted(joined[name], everybody) for name, row in parts[0].items() if row[0] == "attack"
    ]
    best = max(attacks, key=lambda hits: float(hits.double().mean()))
    rows = []
    for name, (role, cost, _) in parts[0].items():
        rows.append(panel.score(name, role, joined[name], everybody, cost, best))
        if name == _SWAPPED:
            # The same pictures, judged against the embedding's person instead of the LoRA's.
            other = "this embedding in another LoRA"
            rows.append(panel.score(other, "control", joined[name], swapped, cost, best))
    return sorted(rows, key=lambda row: _ORDER.index(row.role))


_Part = dict[str, tuple[str, int, Seen]]
"""Condition -> (role, evaluations, what the panel sees)."""


def _passes(count: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(size, count - first)) for first in range(0, count, size)]


def _write(part: _Part, file: Path) -> None:
    about = {name: [role, cost] for name, (role, cost, _) in part.items()}
    tensors = {
        f"{number}/{field}": getattr(seen, field).contiguous()
        for number, (_, _, seen) in enumerate(part.values())
        for field in ("faces", "found", "clip")
    }
    save_file(tensors, file, {"conditions": json.dumps(about)})


def _read(file: Path) -> _Part:
    try:
        with safe_open(file, "pt") as stored:
            about = json.loads(stored.metadata()["conditions"])
            return {
                name: (
                    role,
                    cost,
                    Seen(*(stored.get_tensor(f"{number}/{field}") for field in ("faces", "found", "clip"))),
                )
                for number, (name, (role, cost)) in enumerate(about.items())
            }
    except (OSError, ValueError, KeyError) as error:
        raise LorauditError(
            f"{file.name} cannot be read", "delete the file, which is then made again"
        ) from error


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as Markdown."""

    def cell(value: Interval, digits: int) -> str:
        return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"

    lines = [
        "| condition | role | evaluations | accepted at FAR 1e-3 | behind the best attack | rank-1 "
        "| consensus accepted | consensus rank-1 | face cosine | CLIP-I | CLIP-T | faces |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            cell(row.accepted, 3),
            cell(row.behind, 3),
            cell(row.rank1, 3),
            cell(row.consensus, 3),
            cell(row.consensus_rank1, 3),
            cell(row.cosine, 3),
            cell(row.clip_i, 3),
            cell(row.clip_t, 1),
        )
        lines.append(
            f"| {row.condition} | {row.role} | {row.evaluations} | {' | '.join(cells)} "
            f"| {row.faces}/{row.samples} |"
        )
    return "\n".join(lines) + "\n"
