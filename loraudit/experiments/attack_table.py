r"""The paper's attack on private LoRAs beside its upper bound, its cheapest rivals and its negative controls.

    python -m loraudit.experiments.attack_table --zoo runs/zoo-private --paper models/paper-tiny \
        --encoder models/probe-tiny --constant runs/constant --out models/probe-tiny/table.json

Every condition is an embedding put into a LoRA (or into the base), sampled with the same seeds and settings
and judged by `loraudit.experiments.panel`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from loraudit.base import Base, Sampling, load_base
from loraudit.encoder.checkpoint import load_encoder
from loraudit.encoder.paper import frozen_transformer
from loraudit.experiments.conditions import conditions
from loraudit.experiments.panel import GALLERY, Interval, Panel, Row
from loraudit.training.zoo import Zoo, open_zoo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from loraudit.attacks import Attack
    from loraudit.encoder import Encoder

__all__ = ["attack_table", "markdown"]


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
) -> list[Row]:
    """All rows, over every member of `zoo` at its last snapshot, as `conditions` names them."""
    report("drawing references and gallery")
    members = zoo.members
    panel = Panel.of([member.identity for member in members], gallery)
    shots: dict[str, list[Tensor]] = {}
    roles: dict[str, str] = {}
    size = zoo.plan.people_per_pass
    for first in range(0, len(members), size):
        terms = zoo.terms(first, zoo.plan.snapshots[-1])
        group = members[first : first + size]
        for condition in conditions(base, terms, [m.prompt for m in group], encoders, constant, finders):
            report(f"LoRAs {first + 1} to {first + len(group)} of {len(members)}: {condition.name}")
            roles[condition.name] = condition.role
            shots.setdefault(condition.name, []).append(condition.shoot(base, terms, seeds, settings))
    rows = []
    for name, parts in shots.items():
        # `[M, K, 3, H, W]`
        pictures = torch.cat([part.view(-1, len(seeds), *part.shape[1:]) for part in parts])
        rows.append(panel.score(name, roles[name], pictures, torch.arange(len(members))))
        if name == "another LoRA's embedding":
            # The same pictures, judged against whom the embedding came from instead of whom the LoRA shows.
            owners = torch.cat(
                [
                    first + (torch.arange(len(p) // len(seeds)) + 1) % (len(p) // len(seeds))
                    for first, p in zip(range(0, len(members), size), parts, strict=True)
                ]
            )
            rows.append(panel.score("this embedding in another LoRA", "control", pictures, owners))
    order = ("bound", "attack", "baseline", "ablation", "control")
    return sorted(rows, key=lambda row: order.index(row.role))


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""

    def cell(value: Interval, digits: int) -> str:
        return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"

    lines = [
        "| condition | role | accepted at FAR 1e-3 | face cosine | rank-1 | CLIP-I | CLIP-T | faces |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            cell(row.accepted, 3),
            cell(row.cosine, 3),
            cell(row.rank1, 3),
            cell(row.clip_i, 3),
            cell(row.clip_t, 1),
        )
        lines.append(f"| {row.condition} | {row.role} | {' | '.join(cells)} | {row.faces}/{row.samples} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run, write `--out` and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--paper", type=Path)
    parser.add_argument("--no-timestep", type=Path)
    parser.add_argument("--encoder", type=Path, help="a probe encoder")
    parser.add_argument("--constant", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = load_base(options.base)
    frozen = frozen_transformer(base.text_encoder)
    # The last one is whose embedding the ablations and controls take.
    names = {
        "paper encoder": options.paper,
        "paper encoder, no timestep": options.no_timestep,
        "encoder": options.encoder,
    }
    encoders = {
        name: load_encoder(path, frozen, base.embedding_shape[0])[0] for name, path in names.items() if path
    }
    constant = torch.from_numpy(np.load(options.constant / "embedding.npy")) if options.constant else None
    settings = Sampling(options.steps, options.guidance)
    zoo = open_zoo(options.zoo)
    rows = attack_table(
        base,
        zoo,
        encoders,
        constant,
        range(options.samples),
        settings,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    if options.out:
        record = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "sampling": asdict(settings),
            "seeds": list(range(options.samples)),
            "identities": len(zoo.members),
            "rows": [asdict(row) for row in rows],
        }
        options.out.write_text(json.dumps(record, indent=2) + "\n")
    sys.stdout.write(markdown(rows))


if __name__ == "__main__":
    main()
