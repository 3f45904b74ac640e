"""Calibration: measurement of control LoRAs under the very attacks of a scan.

A control's pictures come from the tuned model alone: controls of a control say nothing about a scan. LoRAs of
one person each are measured three times: alone, against photos of that person, and against photos of another.
`measure` measures one LoRA, `calibrate` all LoRAs, `calibrate_folders` all LoRAs in folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from loraudit.attacks.aim import Aim, Attack
from loraudit.attacks.encoder import EncoderAttack
from loraudit.attacks.plan import Plan, draw, looks
from loraudit.attacks.search.search import SearchAttack
from loraudit.attacks.table import version_of
from loraudit.audit.photos import read_photos
from loraudit.audit.setup import Setup
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.errors import LorauditError
from loraudit.evidence.calibration import KINDS, Calibration, Conditions, Control, Leaking, Shares
from loraudit.evidence.merging import Spread
from loraudit.evidence.null import agreement_score, likeness_score
from loraudit.lora import Factors, LoRA, LoRAFile, load_lora
from loraudit.lora.directions import directions
from loraudit.runs import OnStep, Run, unheard
from loraudit.scores import FaceScorer
from loraudit.scores.scorers import Scorers, look_at
from loraudit.text import clean
from loraudit.version import versions

__all__ = ["calibrate", "calibrate_folders", "check_folders", "conditions_of", "measure"]

_MATCH: Final = "identity"
"""Name of a person's LoRAs in `done.jsonl`, where controls have their kind."""
_LORA: Final = "lora.safetensors"
"""File name of a person's LoRA."""
_DONE: Final = "done.jsonl"


def calibrate(
    base: Base,
    attacks: Sequence[Attack],
    plan: Plan,
    face: FaceScorer,
    loras: Iterable[tuple[str, LoRA | Terms]],
    identities: Iterable[tuple[LoRA | Terms, Sequence[Tensor], Sequence[Tensor]]] = (),
    *,
    face_sha256: str,
    name: str = "calibration",
) -> Calibration:
    """Measure control `loras`, each with its kind (from `KINDS`), and return the calibration data.

    `identities` are LoRAs of one person each, with photos `[3, H, W]` in 0..1 of that person, and of
    *another*. `Terms` hold one LoRA. Raises `LorauditError` where an attack cannot run on a LoRA.
    """
    alone = Scorers(face)
    controls = [(kind, measure(base, attacks, plan, (alone,), lora)) for kind, lora in loras]
    people, spreads = [], []
    for lora, *pictures in identities:
        judges = (alone, *(_against(alone, photos) for photos in pictures))
        people.append(measure(base, attacks, plan, judges, lora))
        spreads.append(directions(lora if isinstance(lora, LoRA) else _as_lora(lora, base)))
    conditions = conditions_of(base, attacks, plan, face_sha256)
    return _calibration(name, conditions, looks(len(plan.seeds)), controls, people, spreads)


def calibrate_folders(
    setup: Setup,
    plan: Plan,
    controls: Path,
    identities: Path | None,
    out: Path,
    on_step: OnStep = unheard,
) -> Calibration:
    """Measure `controls/<kind>/*` and `identities/<name>`, write `calibration.json` into `out`.

    Of identities without photos only the weights are read, to tell merged LoRAs by: one LoRA of each recipe
    (`loraudit.evidence.merging`). If all identities have photos, their weights serve.

    `settings.json` is written first, and a line of `done.jsonl` as each LoRA is done. A later call with the
    same settings goes on from there. `on_step` receives the number of LoRAs done, and their total.

    Raises `LorauditError` if `out` holds another calibration, a folder is none of `KINDS`, or an identity has
    no LoRA. Raises ValueError if `setup` has no face model.
    """
    scorers = setup.scorers
    if scorers is None:
        raise ValueError("a setup without a face model")
    conditions = conditions_of(setup.base, setup.attacks, plan, scorers.face_sha256)
    of_a_person = ("agreement", "likeness", "likeness to another", "aims for photos only")
    settings = json.dumps(
        {**asdict(conditions), "looks": looks(len(plan.seeds)), "scores of a person": of_a_person},
        sort_keys=True,
    )
    jobs = [(kind.name, file) for kind in _kinds(controls) for file in sorted(kind.iterdir())]
    people = _people(identities) if identities else []
    shown = [folder for folder in people if _holds_photos(folder)]
    read = [folder for folder in people if folder not in shown] or shown
    spreads = [directions(load_lora(str(folder / _LORA))) for folder in read]
    run = Run(out)
    done = _resumed(run, settings)
    jobs += [(_MATCH, folder) for folder in shown]
    for number, (kind, path) in enumerate(jobs):
        on_step(number, len(jobs), "")
        if (key := f"{kind}/{path.name}") in done:
            continue
        lora, judges = path, [Scorers(scorers.face)]
        if kind == _MATCH:
            lora = path / _LORA
            # The next person is a stranger to this LoRA.
            for folder in (path, shown[(shown.index(path) + 1) % len(shown)]):
                judges.append(_against(judges[0], _photos(folder)))
        done[key] = measure(setup.base, setup.attacks, plan, judges, load_lora(str(lora)))
        run.append(_DONE, {"lora": key, "scores": done[key]})
    on_step(len(jobs), len(jobs), "")
    rows = [(kind, done[f"{kind}/{path.name}"]) for kind, path in jobs]
    found = _calibration(
        out.name,
        conditions,
        looks(len(plan.seeds)),
        [(kind, scores) for kind, scores in rows if kind != _MATCH],
        [scores for kind, scores in rows if kind == _MATCH],
        spreads,
    )
    found.write(out)
    return found


def _calibration(
    name: str,
    conditions: Conditions,
    at: tuple[int, ...],
    controls: Sequence[tuple[str, tuple[Shares, ...]]],
    people: Sequence[tuple[Shares, ...]],
    spreads: Sequence[Spread],
) -> Calibration:
    """Return calibration data; `people` have scores alone, against their own and against another's photos."""
    return Calibration(
        name,
        conditions,
        at,
        tuple(Control(kind, scores) for kind, (scores,) in controls),
        tuple(another for _, _, another in people),
        tuple(Leaking(agreement, likeness) for agreement, likeness, _ in people),
        tuple(spreads),
        versions(),
    )


def _against(scorers: Scorers, photos: Sequence[Tensor]) -> Scorers:
    return replace(scorers, references=look_at(photos, scorers.face, None))


def _photos(folder: Path) -> tuple[Tensor, ...]:
    """Read the photos of a person. Raises `LorauditError` unless every picture in `folder` can be read."""
    photos = read_photos(folder)
    if photos.missed:
        raise LorauditError(f"{clean(folder.name)}: {photos.missed}", "convert the others, or move them out")
    return photos.pictures


def check_folders(controls: Path, identities: Path | None, out: Path) -> None:
    """Raise `LorauditError` where `calibrate_folders` would for these folders, before a base is loaded."""
    _kinds(controls)
    if identities:
        _people(identities)
    Run(out).check()


def _kinds(controls: Path) -> list[Path]:
    folders = _folders_in(controls)
    if not folders or any(folder.name not in KINDS for folder in folders):
        raise LorauditError(
            f"{clean(str(controls), 300)} needs a folder for each kind of control",
            f"name them {', '.join(KINDS)}",
        )
    return folders


def _people(identities: Path) -> list[Path]:
    folders = _folders_in(identities)
    if not folders or not all((folder / _LORA).is_file() for folder in folders):
        raise LorauditError(
            f"{clean(str(identities), 300)} needs a folder for each person, with {_LORA} in it",
            "add photos of the person, or leave only the weights to be read",
        )
    return folders


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise LorauditError(f"there is no folder {clean(str(folder), 300)}", "check the path")
    return sorted(one for one in folder.iterdir() if one.is_dir())


def _holds_photos(identity: Path) -> bool:
    return any(path.name != _LORA for path in identity.iterdir())


def _resumed(run: Run, settings: str) -> dict[str, tuple[Shares, ...]]:
    """Begin or resume the run; return the scores of the LoRAs that are done already, by their key.

    Raises `LorauditError` if the folder holds another run, or rows that no run wrote.
    """
    run.begin(
        "settings.json", settings, lambda old: "" if old == settings else "a calibration with other settings"
    )
    rows = run.rows(_DONE)
    try:
        return {
            str(row["lora"]): tuple(
                {name: tuple(float(share) for share in shares) for name, shares in scores.items()}
                for scores in row["scores"]
            )
            for row in rows
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise run.damaged(_DONE) from None


def measure(
    base: Base, attacks: Sequence[Attack], plan: Plan, judges: Sequence[Scorers], lora: LoRA | Terms
) -> tuple[Shares, ...]:
    """Score every attack with each of `judges`, at each look: the share of matching pairs.

    A judge with references scores the likeness instead, also of aims made for the photos only. Attacks by the
    LoRA's own words are left out: such words stand for a name like any other. Raises as `Attack.aims`.
    """
    if not isinstance(lora, LoRA):
        lora = _as_lora(lora, base)
    terms = base.with_lora(lora).terms
    found: tuple[dict[str, tuple[float, ...]], ...] = tuple({} for _ in judges)
    for aim in (aim for attack in attacks for aim in attack.aims(lora, base) if not aim.calibrated_as):
        pairs = zip(judges, found, strict=True)
        asked = [pair for pair in pairs if pair[0].references is not None or not aim.likeness_only]
        if not asked:
            continue
        pictures = _pictures(base.with_lora(terms, aim.strength), base, aim, plan)
        for judge, shares in asked:
            faces, threshold = judge.faces(pictures), judge.face.threshold
            shares[aim.attack] = tuple(
                agreement_score(faces, threshold, (look,))
                if judge.references is None
                else likeness_score(faces, (look,))
                for look in looks(len(plan.seeds))
            )
    return found


def conditions_of(base: Base, attacks: Sequence[Attack], plan: Plan, face_sha256: str) -> Conditions:
    """Return the conditions of a calibration with `attacks`; `face_sha256` is that of the face model."""
    encoders = {}
    for attack in attacks:
        encoder = attack.encoder if isinstance(attack, SearchAttack) else attack
        if isinstance(encoder, EncoderAttack):
            encoders[attack.name] = encoder.checkpoint.sha256
    return Conditions(
        base.name,
        base.fingerprint or "",
        plan.sampling.steps,
        plan.sampling.guidance,
        {attack.name: version_of(attack.name) for attack in attacks},
        encoders,
        face_sha256,
    )


def _pictures(tuned: Base, base: Base, aim: Aim, plan: Plan) -> Tensor:
    size = plan.pictures_a_pass(base)
    batches = (plan.seeds[i : i + size] for i in range(0, len(plan.seeds), size))
    return torch.cat(
        [draw(tuned, base, aim.embedding[None], seeds, plan.sampling, aim.against_base) for seeds in batches]
    )


def _as_lora(terms: Terms, base: Base) -> LoRA:
    factors = {
        site: Factors(up[0].float().cpu().numpy(), down[0].float().cpu().numpy(), 1.0)
        for site, (up, down) in terms.items()
    }
    file = LoRAFile("control", Path("control"), "", 0, {})
    return LoRA(file, base.name, base.name, "terms", factors, ())
