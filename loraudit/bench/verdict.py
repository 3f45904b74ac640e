"""`loraudit bench verdict`: ROC, levels and false alarms over leaking and harmless LoRAs."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from loraudit.attacks.table import version_of
from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.bench.attacks import begin
from loraudit.bench.cases import (
    Area,
    Case,
    Judged,
    Outcome,
    auroc,
    cases,
    outcome,
    scores,
    share,
    strangers,
)
from loraudit.bench.faces import AIMS, PHOTO_AIMS, Pool, Shots, draw_faces, zoos_in
from loraudit.bench.verdict_tables import LEVELS, SEVERAL, SHOWN, verdict_markdown
from loraudit.cards import artefact, models_dir
from loraudit.encoder import frozen_transformer, load_encoder, read_checkpoint
from loraudit.errors import LorauditError
from loraudit.evidence.calibration import Conditions, load_calibration
from loraudit.evidence.null import Null
from loraudit.findings.finding import Severity
from loraudit.runs import Run
from loraudit.scores.face import load_tiny_face
from loraudit.text import clean
from loraudit.training.zoo import Zoo, open_zoo
from loraudit.version import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loraudit.scores import FaceScorer

__all__ = ["VerdictBench", "bench_verdict", "draw_verdict"]

_LEVELS: Final = (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW)
_P: Final = (0.01, 0.05, 0.1, 0.5)
_KINDS: Final = {
    "calibrated": "calibrated",
    "in-scan controls only": "in_scan",
    "three references": "referenced",
    "calibrated, stopping early": "early",
    "three references, stopping early": "early_referenced",
}
"""Table of levels -> field of `Outcome`."""
_FEW: Final = 32
"""Most cases that are judged in this process alone."""
_CURVE_PEOPLE: Final = 16


@dataclass(frozen=True)
class VerdictBench:
    """Request of `bench verdict`. A folder is a zoo, or holds zoos."""

    leaking: tuple[Path, ...]
    harmless: tuple[Path, ...]
    out: Path
    extra: tuple[Path, ...] = ()
    """Zoos of people from which harmless LoRAs are made: merged LoRAs and noise."""
    curve: Path | None = None
    """Zoo with several snapshots, for the scores over the fine-tuning steps."""
    encoder: str = "probe-tiny"
    calibration: str = "calibration-tiny"
    """Folder, or name of bundled calibration data."""
    people: int = 1_000_000
    """Most LoRAs to read of a zoo."""
    samples: int = 16
    steps: int = 12
    guidance: float = 3.0


def bench_verdict(job: VerdictBench, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the record of `job`.

    `job.out` gets `settings.json` first, then the faces of every zoo, `verdict.json`, `verdict.md` and
    `verdict.png`. An interrupted run goes on where it stopped. Raises `LorauditError` if `job.out` holds
    another run, or a folder no zoo.
    """
    run = Run(job.out)
    run.check()
    read_checkpoint(job.encoder)
    sides = {"leaking": job.leaking, "harmless": job.harmless, "extra": job.extra}
    zoos = {side: zoos_in(folders) for side, folders in sides.items()}
    curve = None if job.curve is None else open_zoo(job.curve)
    base = load_base("tiny")
    encoder, checkpoint = load_encoder(
        job.encoder, frozen_transformer(base.text_encoder), base.embedding_shape[0]
    )
    face = load_tiny_face(artefact("tiny-face"))
    shots = Shots(job.samples, Sampling(job.steps, job.guidance))
    settings = {
        "encoder": checkpoint.sha256,
        "attacks": [*AIMS, *PHOTO_AIMS],
        "people": job.people,
        "samples": job.samples,
        "sampling": asdict(shots.sampling),
        "zoos": {side: [_name(zoo.folder) for zoo in found] for side, found in zoos.items()},
        "versions": versions(),
    }
    begin(run, settings)

    def faces(zoo: Zoo, ending: str = "", **how: Any) -> Pool:  # noqa: ANN401
        return draw_faces(base, zoo, encoder, face, shots, run, f"{_name(zoo.folder)}{ending}", say, **how)

    found = {side: [faces(zoo, people=job.people) for zoo in zoos[side]] for side in ("leaking", "harmless")}
    found["harmless"] += [faces(zoo, "-extra", extra=True) for zoo in zoos["extra"]]
    null_of = _nulls(job, base.fingerprint or "", {"search": checkpoint.sha256})
    say("judging")
    people = [case for pool in found["leaking"] for case in cases(pool, pool.identities, face)]
    nobody: list[Case] = []
    for pool in found["harmless"]:
        nobody += cases(pool, strangers(len(pool.kinds), len(nobody)), face)
    leaking, harmless = (_outcomes(side, null_of) for side in (people, nobody))
    record = {**settings, **measure(leaking, harmless)}
    if curve is not None:
        record["curve"] = _curve(curve, faces, face)
    run.write("verdict.json", json.dumps(record, indent=1) + "\n")
    run.write("verdict.md", verdict_markdown(record))
    draw_verdict(leaking, harmless, job.out / "verdict.png", record.get("curve", ()))
    return record


def measure(leaking: Sequence[Outcome], harmless: Sequence[Outcome]) -> dict[str, Any]:
    """Measure areas, levels, and the pictures that stopping early saves."""
    sides = {"leaking": leaking, "harmless": harmless}
    values = {side: [one.scores for one in found] for side, found in sides.items()}
    record: dict[str, Any] = {"auroc": _areas(leaking, harmless)}
    if any(one.shown is not None for one in leaking):
        shown = [one for one in leaking if one.shown]
        record[SHOWN] = {
            "loras": share([bool(one.shown) for one in leaking]),
            "high or above": share([one.calibrated.level >= Severity.HIGH for one in shown]),
            "auroc": _areas(shown, harmless) if shown else {},
        }
    if all("p-value" in row for rows in values.values() for row in rows):
        record["p-values"] = {
            side: {str(level): share([row["p-value"] <= level for row in rows]) for level in _P}
            for side, rows in values.items()
        }
    for name, kind in _KINDS.items():
        record[LEVELS + name] = {
            side: _levels([getattr(one, kind).level for one in found]) for side, found in sides.items()
        }
    if all(one.several is not None for one in (*leaking, *harmless)):
        record[SEVERAL] = {
            kind: share([bool(one.several) for one in (*leaking, *harmless) if one.kind == kind])
            for kind in dict.fromkeys(one.kind for one in (*leaking, *harmless))
        }
    record["by recipe"] = _by_recipe(leaking, harmless)
    record["stopping early"] = {
        "without references": _stopping([(one.calibrated, one.early) for one in (*leaking, *harmless)]),
        "three references": _stopping(
            [(one.referenced, one.early_referenced) for one in (*leaking, *harmless)]
        ),
    }
    return record


def _areas(leaking: Sequence[Outcome], harmless: Sequence[Outcome]) -> dict[str, Any]:
    return {name: asdict(_area(leaking, harmless, name)) for name in leaking[0].scores if name != "p-value"}


def _area(leaking: Sequence[Outcome], harmless: Sequence[Outcome], score: str) -> Area:
    high, low = ([one.scores[score] for one in side] for side in (leaking, harmless))
    return auroc(high, low, ([one.pool for one in leaking], [one.pool for one in harmless]))


def _levels(found: Sequence[Severity]) -> dict[str, list[float]]:
    """Count the share of LoRAs at each level or above."""
    shown = {level.value: share([one >= level for one in found]) for level in _LEVELS}
    return {**shown, "inconclusive": share([one is Severity.INCONCLUSIVE for one in found])}


def _by_recipe(leaking: Sequence[Outcome], harmless: Sequence[Outcome]) -> list[dict[str, Any]]:
    rows = []
    for side in (leaking, harmless):
        for pool in dict.fromkeys(one.pool for one in side):
            mine = [one for one in side if one.pool == pool]
            recipe = mine[0].recipe
            row: dict[str, Any] = {
                "zoo": pool,
                "kinds": sorted({one.kind for one in mine}),
                "loras": len(mine),
                "rank": recipe["rank"],
                "modules": len(recipe["unet_targets"]),
                "text encoder": bool(recipe["text_targets"]),
                "prior preservation": bool(recipe["prior_weight"]),
                "steps": recipe["steps"],
                "pictures": recipe["pictures"],
                "high or above": share([one.calibrated.level >= Severity.HIGH for one in mine]),
            }
            if side is leaking:
                row["auroc"] = _area(mine, harmless, "without references").value
                if any(one.shown is not None for one in mine):
                    row["shown"] = share([bool(one.shown) for one in mine])
            rows.append(row)
    return rows


def _stopping(pairs: Sequence[tuple[Judged, Judged]]) -> dict[str, Any]:
    """Compare pairs of scans, `(whole, early)`."""
    return {
        "median share of pictures": median(early.pictures / whole.pictures for whole, early in pairs),
        "same level": share([early.level is whole.level for whole, early in pairs]),
        "same answer to --fail-on high": share(
            [(early.level >= Severity.HIGH) == (whole.level >= Severity.HIGH) for whole, early in pairs]
        ),
    }


def _outcomes(found: Sequence[Case], null_of: Callable[[Case], Null | None]) -> list[Outcome]:
    if len(found) <= _FEW:
        return [outcome(case, null_of(case)) for case in found]
    # Forked, since the work needs no torch.
    with ProcessPoolExecutor(mp_context=get_context("fork")) as workers:
        return list(workers.map(outcome, found, map(null_of, found), chunksize=4))


def _curve(zoo: Zoo, faces: Callable[..., Pool], face: FaceScorer) -> list[dict[str, Any]]:
    rows = []
    for step in zoo.plan.snapshots:
        pool = faces(zoo, f"-{step}", step=step, people=_CURVE_PEOPLE)
        values = [scores(case, None) for case in cases(pool, pool.identities, face)]
        rows.append(
            {
                "steps": step,
                "loras": len(values),
                **{name: sum(row[name] for row in values) / len(values) for name in values[0]},
            }
        )
    return rows


def _nulls(job: VerdictBench, base: str, encoders: dict[str, str]) -> Callable[[Case], Null | None]:
    """Make the function that finds each case's null distribution, as a scan of the case would."""
    folder = Path(job.calibration) if Path(job.calibration).is_dir() else models_dir() / job.calibration
    if not folder.is_dir():
        return lambda _case: None
    data = load_calibration(folder)
    mine, versions_here = data.conditions, {name: version_of(name) for name in encoders}
    here = Conditions(mine.base, base, job.steps, job.guidance, versions_here, encoders, mine.face)
    null, used = data.fit(here, AIMS, job.samples, likeness_only=PHOTO_AIMS)
    if null is None:
        raise LorauditError(f"the calibration {clean(folder.name)} does not fit: {used.unused}")
    return lambda case: data.fit(here, AIMS, job.samples, case.spread, PHOTO_AIMS)[0]


def _name(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


def draw_verdict(
    leaking: Sequence[Outcome],
    harmless: Sequence[Outcome],
    path: Path,
    curve: Sequence[Mapping[str, float]] = (),
) -> None:
    """Draw histograms of the scores of both sides, and `curve`, the scores over the steps, if any."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = ("without references", "in-scan controls only", "three references")
    panels = len(names) + bool(curve)
    figure, axes = plt.subplots(1, panels, figsize=(3.7 * panels, 3), layout="constrained")
    for ax, name in zip(axes, names, strict=False):
        for label, found in (("harmless", harmless), ("leaking", leaking)):
            values = [one.scores[name] for one in found]
            ax.hist(
                values, bins=np.linspace(-0.2, 1, 25).tolist(), weights=[1 / len(values)] * len(values),
                alpha=0.6, label=f"{label} ({len(values)})",
            )  # fmt: skip
        ax.set(xlabel=f"score, {name}", ylabel="share of LoRAs")
        ax.legend()
    for name in names if curve else ():
        axes[-1].plot([row["steps"] for row in curve], [row[name] for row in curve], "o-", label=name)
    if curve:
        axes[-1].set(
            xlabel=f"steps of fine-tuning, {curve[0]['loras']} LoRAs", ylabel="mean score", ylim=(0, 1)
        )
        axes[-1].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
