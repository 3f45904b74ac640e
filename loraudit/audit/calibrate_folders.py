"""Calibration from folders of LoRA files: controls by kind, and people with photos of each."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loraudit.attacks.plan import Plan, looks
from loraudit.audit.calibrate import PERSON, Subject, calibration_of, conditions_of, measured
from loraudit.audit.photos import read_photos
from loraudit.audit.setup import Setup
from loraudit.errors import LorauditError
from loraudit.evidence.calibration import KINDS, Calibration, Conditions
from loraudit.lora import LoRA, load_lora
from loraudit.lora.directions import directions
from loraudit.runs import OnStep, Run, unheard
from loraudit.text import clean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["begin_run", "calibrate_folders", "check_folders"]

_LORA: Final = "lora.safetensors"
"""File name of a person's LoRA."""


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

    `settings.json` is written first, and a line of `done.jsonl` as each attack on each LoRA is done. A later
    call with the same settings goes on from there. `on_step` receives the number of LoRAs done, and their
    total.

    Raises `LorauditError` if `out` holds another calibration, a folder is none of `KINDS`, or an identity has
    no LoRA. Raises ValueError if `setup` has no face model.
    """
    if setup.scorers is None:
        raise ValueError("a setup without a face model")
    face = setup.scorers.face
    conditions = conditions_of(setup.base, setup.attacks, plan, setup.scorers.face_sha256)
    files = [(kind.name, file) for kind in _kinds(controls) for file in sorted(kind.iterdir())]
    people = _people(identities) if identities else []
    shown = [folder for folder in people if _holds_photos(folder)]
    read = [folder for folder in people if folder not in shown] or shown
    spreads = [directions(_lora(folder / _LORA)) for folder in read]
    run = Run(out)
    begin_run(run, conditions, plan)
    subjects = [
        *(Subject(kind, file.name, partial(_lora, file)) for kind, file in files),
        *(_person(folder, shown) for folder in shown),
    ]
    rows = measured(setup.base, setup.attacks, plan, face, subjects, run, on_step)
    found = calibration_of(out.name, conditions, plan, rows, spreads)
    found.write(out)
    return found


def begin_run(run: Run, conditions: Conditions, plan: Plan, more: dict[str, object] | None = None) -> None:
    """Begin or resume a run under `conditions`, which further settings `more` may narrow.

    Attacks and encoders are left out: `done.jsonl` names them line by line, so that one may change. Raises
    `LorauditError` if the folder holds another run.
    """
    told = {
        "base": conditions.fingerprint or conditions.base,
        "steps": conditions.steps,
        "guidance": conditions.guidance,
        "face": conditions.face,
        "looks": looks(len(plan.seeds)),
        **(more or {}),
    }
    settings = json.dumps(told, sort_keys=True)

    def other(old: str) -> str:
        if old == settings:
            return ""
        try:
            base = json.loads(old)["base"]
        except (ValueError, KeyError, TypeError):
            return "a calibration with other settings"
        return f"a calibration {'of another base' if base != told['base'] else 'with other settings'}"

    run.begin("settings.json", settings, other)


def check_folders(controls: Path, identities: Path | None, out: Path) -> None:
    """Raise `LorauditError` where `calibrate_folders` would for these folders, before a base is loaded."""
    _kinds(controls)
    if identities:
        _people(identities)
    Run(out).check()


def _person(folder: Path, people: list[Path]) -> Subject:
    # The next person is a stranger to this LoRA.
    another = people[(people.index(folder) + 1) % len(people)]
    return Subject(
        PERSON, folder.name, lambda: _lora(folder / _LORA), lambda: (_photos(folder), _photos(another))
    )


def _lora(file: Path) -> LoRA:
    return load_lora(str(file))


def _photos(folder: Path) -> tuple[Tensor, ...]:
    """Read the photos of a person. Raises `LorauditError` unless every picture in `folder` can be read."""
    photos = read_photos(folder)
    if photos.missed:
        raise LorauditError(f"{clean(folder.name)}: {photos.missed}", "convert the others, or move them out")
    return photos.pictures


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
