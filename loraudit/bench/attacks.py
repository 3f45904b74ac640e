"""`loraudit bench attacks`: the table of every attack and control, from a zoo of held-out people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from loraudit.attacks.matching import MatchingAttack
from loraudit.base.load import load_base
from loraudit.base.model import Base, Sampling
from loraudit.bench.attack_table import attack_table, markdown
from loraudit.bench.panel import GALLERY
from loraudit.encoder import Encoder, frozen_transformer, load_encoder, read_checkpoint
from loraudit.errors import LorauditError
from loraudit.people.sources import Synthetic
from loraudit.people.things import subjects
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean
from loraudit.training.defaults import base_recipe, prior_latents, quarters
from loraudit.training.people_a_pass import people_a_pass
from loraudit.training.zoo import Zoo, build_zoo, is_finished, open_zoo
from loraudit.training.zoo_plan import Plan, read_plan
from loraudit.version import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from loraudit.attacks.aim import Attack
    from loraudit.bench.panel import Row

__all__ = ["AttackBench", "begin", "bench_attacks", "draw_table"]

_FINDERS: Final[dict[str, Callable[[], Attack]]] = {"matching": MatchingAttack}
_COLOURS: Final = {
    "bound": "#555555",
    "attack": "#c0392b",
    "baseline": "#2c7fb8",
    "ablation": "#e08e0b",
    "control": "#2e8b57",
}


@dataclass(frozen=True)
class AttackBench:
    """Request of `bench attacks`."""

    zoo: Path
    """Folder of the zoo; if missing, built first of `people` private people by the base's recipe."""
    out: Path
    people: int = 128
    encoder: str = "probe-tiny"
    paper: str = "paper-tiny"
    constant: Path | None = None
    """Folder that `train-encoder --constant` wrote."""
    finders: tuple[str, ...] = ()
    """Names of slow attacks, which take one LoRA at a time: `matching`."""
    samples: int = 8
    steps: int = 12
    guidance: float = 3.0
    snapshot: int | None = None
    """Saved step of the zoo; None for the last."""
    gallery: int = GALLERY
    """People in the gallery of rank-1."""


def bench_attacks(job: AttackBench, say: Callable[[str], None], on_step: OnStep = unheard) -> list[Row]:
    """Measure the rows; `job.out` gets `settings.json` first, then `table.json`, `table.md` and `table.png`.

    An interrupted run goes on where it stopped. Raises `LorauditError` if `job.out` holds another run, or
    `job.constant` no embedding.
    """
    run = Run(job.out)
    run.check()
    for encoder_name in (job.paper, job.encoder):
        read_checkpoint(encoder_name)
    constant = None if job.constant is None else _constant(job.constant)
    base = load_base("tiny")
    zoo = _zoo(base, job, say, on_step)
    frozen, length = frozen_transformer(base.text_encoder), base.embedding_shape[0]
    encoders: dict[str, Encoder] = {}
    shas: dict[str, str] = {}
    # The ablations and controls take the embedding of the last encoder.
    for name, where in (("paper encoder", job.paper), ("encoder", job.encoder)):
        encoder, checkpoint = load_encoder(where, frozen, length)
        if _reads(encoder, zoo):
            encoders[name], shas[name] = encoder, checkpoint.sha256
    settings = Sampling(job.steps, job.guidance)
    record = {
        "zoo": asdict(replace(zoo.plan, people=zoo.plan.people[: job.people])),
        "people": min(job.people, len(zoo.members)),
        "snapshot": job.snapshot or zoo.plan.snapshots[-1],
        "encoders": shas,
        "constant": constant is not None,
        "finders": list(job.finders),
        "samples": job.samples,
        "gallery": job.gallery,
        "sampling": asdict(settings),
        "versions": versions(),
    }
    begin(run, record)
    rows = attack_table(
        base,
        zoo,
        encoders,
        constant,
        range(job.samples),
        settings,
        say,
        job.gallery,
        finders=[_FINDERS[name]() for name in job.finders],
        step=job.snapshot,
        people=job.people,
        run=run,
    )
    table = {**record, "rows": [asdict(row) for row in rows]}
    run.write("table.json", json.dumps(table, indent=1) + "\n")
    run.write("table.md", markdown(rows))
    draw_table(rows, job.out / "table.png")
    return rows


def _constant(folder: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(folder / "embedding.npy"))
    except (OSError, ValueError):
        raise LorauditError(
            f"there is no constant embedding in {clean(str(folder), 300)}",
            "give the folder that 'loraudit train-encoder --constant' wrote",
        ) from None


def _zoo(base: Base, job: AttackBench, say: Callable[[str], None], on_step: OnStep) -> Zoo:
    if (job.zoo / "zoo.json").exists():
        plan, _ = read_plan(job.zoo)
        if is_finished(job.zoo, plan):
            return open_zoo(job.zoo)
    else:
        recipe = base_recipe(base)
        people = subjects(Synthetic.name, "private", 0, job.people)
        plan = Plan(people, recipe, quarters(recipe), people_a_pass(base, recipe))
    say(f"building the zoo {clean(job.zoo.name)}")
    return build_zoo(base, job.zoo, plan, prior_latents(base, plan.recipe, on_step), on_step)


def _reads(encoder: Encoder, zoo: Zoo) -> bool:
    """Tell whether the encoder reads LoRAs of the zoo; the paper's takes one rank and set of modules."""
    try:
        with torch.no_grad():
            encoder(zoo.rows([(0, zoo.plan.snapshots[-1])]))
    except (ValueError, KeyError):
        return False
    return True


def begin(run: Run, record: Mapping[str, object]) -> None:
    """Write `record` to `settings.json`. Raises `LorauditError` if the folder holds another record."""
    text = json.dumps(record, indent=1, sort_keys=True, default=str) + "\n"
    run.begin("settings.json", text, lambda old: "" if old == text else "a table with other settings")


def draw_table(rows: Sequence[Row], path: Path) -> None:
    """Draw the accepted share of every row, with its interval, as a PNG at `path`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.24 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        share, colour = row.accepted, _COLOURS[row.role]
        axes.plot([share.low, share.high], [place, place], color=colour)
        axes.plot(share.mean, place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [row.condition for row in rows], fontsize=8)
    axes.set(
        xlim=(-0.01, 1.01), xlabel="pictures accepted as the private person, at a false-accept rate of 1e-3"
    )
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    handles = [Line2D([], [], marker="o", color=colour, label=role) for role, colour in _COLOURS.items()]
    axes.legend(handles=handles, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
