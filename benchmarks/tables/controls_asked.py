"""Levels and cost of a scan that draws controls on demand, beside one that draws all of them.

    python -m benchmarks.tables.controls_asked runs/asked --leaking runs/people --harmless runs/things \
        runs/styles runs/crowds --loras 300

Every LoRA is attacked once, as on a base without an encoder, with all pictures and all controls. The scan is
then replayed on these very pictures in two ways: with both controls for every picture, as it once was, and
with those that the pictures ask for. Leaking LoRAs are compared with photos of their person, harmless ones
with photos of a stranger, and each is judged with and without photos and calibration data. An interrupted run
goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from loraudit.attacks.aim import Reconstruction
from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kept import key_of
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import Plan, looks, plan_for
from loraudit.attacks.table import ATTACKS
from loraudit.audit.setup import Setup
from loraudit.base.load import load_base
from loraudit.base.lowrank import Terms
from loraudit.base.model import CLASS_PROMPT
from loraudit.bench.cases import PHOTOS, first_pictures, share, strangers
from loraudit.bench.conditions import as_lora
from loraudit.bench.faces import pools, zoos_in
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.evidence.calibration import Calibration, load_calibration
from loraudit.evidence.copies import Copies
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.null import Null
from loraudit.lora.directions import directions
from loraudit.people.sources import REFERENCES, Synthetic, portraits
from loraudit.runs import Run, unheard
from loraudit.scores.scorers import Scorers, look_at, open_scorers
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import asks_for_controls, enough, settled

__all__ = ["Replay", "main", "replayed"]

_POLICY: Final = Policy()
_ROWS: Final = "evidence.jsonl"
_DIGITS: Final = 6
_NO_ENCODER: Final = "sd15"
"""Family for which no encoder ships."""


@dataclass(frozen=True)
class Replay:
    """Outcome of one way to scan."""

    level: str
    pictures: int
    """Pictures drawn, by all three models."""


@dataclass(frozen=True, eq=False)
class _Case:
    """LoRA to attack, and the person whose photos it is compared with."""

    kind: str
    where: str
    terms: Terms
    row: int
    person: int


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, attack what is not done yet, replay all of it, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of this run")
    parser.add_argument("--leaking", type=Path, nargs="+", required=True, help="zoos of people")
    parser.add_argument("--harmless", type=Path, nargs="+", required=True, help="zoos of nobody")
    parser.add_argument("--loras", type=int, default=300, help="LoRAs at most, half of them leaking")
    parser.add_argument("--attack", nargs="+", default=["search", "guidance", "prompts"])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, help="steps of a picture [default: those of the base]")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = load_base("tiny")
    kit = Kit(base, Encoders(base, _NO_ENCODER), likeness=True)
    attacks: list[Any] = [row.open(kit) for row in ATTACKS if row.name in options.attack]
    scorers, _ = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, offline=True)
    setup = Setup(base, tuple(attacks), scorers)
    plan = replace(plan_for(base.card, options.samples, options.steps, 0), sequential=False)
    run = Run(options.out)
    settings = json.dumps({"attacks": options.attack, "seeds": plan.seeds, **asdict(plan.sampling)}) + "\n"
    run.begin("settings.json", settings, lambda old: "" if old == settings else "a run with other settings")
    done = {row["where"] for row in run.rows(_ROWS)}
    cases = _chosen(options.leaking, options.harmless, options.loras)
    for number, case in enumerate(cases):
        print(f"{number} of {len(cases)}: {case.where}", file=sys.stderr, flush=True)
        if case.where not in done:
            run.append(_ROWS, _attacked(case, setup, plan))
    data = load_calibration(models_dir() / "calibration-tiny")
    found = [_replays(row, data, plan) for row in run.rows(_ROWS)]
    text = json.dumps(_told(found, plan), indent=1) + "\n"
    run.write("table.json", text)
    sys.stdout.write(text)


def _chosen(leaking: Sequence[Path], harmless: Sequence[Path], most: int) -> list[_Case]:
    """List LoRAs, one of every zoo in turn; what few zoos of one side lack, the other makes up for."""
    sides = [list(_in_turn(folders)) for folders in (leaking, harmless)]
    pairs = zip_longest(*sides)
    return [case for pair in pairs for case in pair if case is not None][:most]


def _in_turn(folders: Sequence[Path]) -> Iterator[_Case]:
    rows = []
    for number, zoo in enumerate(zoos_in(folders)):
        known = zoo.plan.data == Synthetic.name
        mine, first = [], 0
        for kind, terms in pools(zoo, zoo.plan.snapshots[-1], len(zoo.members), extra=False):
            for row in range(len(next(iter(terms.values()))[0])):
                at = first + row
                person = zoo.members[at].identity if known else strangers(1, 100 * number + at)[0]
                where = f"{zoo.folder.parent.name}/{zoo.folder.name}/{at}"
                mine.append(_Case("person" if known else kind, where, terms, row, person))
            first = len(mine)
        rows.append(mine)
    for together in zip_longest(*rows):
        yield from (case for case in together if case is not None)


def _attacked(case: _Case, setup: Setup, plan: Plan) -> dict[str, Any]:
    """Attack one LoRA with all pictures and controls; the evidence is kept with photos and without."""
    lora, alone = as_lora(case.terms, case.row), setup.scorers
    if alone is None:
        raise ValueError("a setup without a face model")
    photos = tuple(portraits(case.person, REFERENCES.start, PHOTOS))
    with_photos = replace(alone, references=look_at(photos, alone.face, None))
    aims, _ = setup.aims(lora, unheard)
    found = list(plan.reconstruct(lora, setup.base, plan.in_order(aims), unheard))
    return {
        "kind": case.kind,
        "where": case.where,
        "searched": sum(aim.evaluations for aim in aims),
        "spread": directions(lora),
        "aims": [
            {
                "embedding": key_of(one.aim.embedding, plan.sampling).hex(),
                "alone": None if one.aim.likeness_only else _kept(one, alone),
                "photos": _kept(one, with_photos),
            }
            for one in found
        ],
    }


def _kept(found: Reconstruction, scorers: Scorers) -> dict[str, Any]:
    kept: dict[str, Any] = _rounded(asdict(replace(found.weighed(scorers), readings=())))
    return kept


def _rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(_rounded, value))
    return round(value, _DIGITS) if isinstance(value, float) else value


def _evidence(stored: Mapping[str, Any]) -> AttackEvidence:
    parts = {name: _tuples(value) for name, value in stored.items()}
    sides = {name: Faces(**parts[name]) for name in ("tuned", "base", "scrambled")}
    copies = parts["copies"] and Copies(**parts["copies"])
    return AttackEvidence(**{**parts, **sides, "copies": copies})


def _tuples(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _replays(row: Mapping[str, Any], data: Calibration, plan: Plan) -> dict[str, Any]:
    """Replay the scans of one LoRA: alone and with photos, by its own controls and calibrated."""
    outcomes = {}
    for name in ("alone", "photos"):
        scan = [(one["embedding"], _evidence(one[name])) for one in row["aims"] if one[name] is not None]
        judged = tuple(one.attack for _, one in scan if not one.likeness_only)
        extra = tuple(one.attack for _, one in scan if one.likeness_only)
        null, _ = data.fit(data.conditions, judged, len(plan.seeds), row["spread"], extra)
        for how, control in (("in-scan controls", None), ("calibrated", null)):
            if how == "in-scan controls" or control is not None:
                outcomes[f"{name}, {how}"] = [replayed(scan, control, ask) for ask in (False, True)]
    return {"kind": row["kind"], "searched": row["searched"], "outcomes": outcomes}


def replayed(scan: Sequence[tuple[str, AttackEvidence]], null: Null | None, ask: bool) -> Replay:
    """Replay a scan of aims, each with the key of its embedding and all of its evidence.

    With `ask`, controls are drawn where the pictures ask for them, otherwise beside every picture.
    """
    most, planned = scan[0][1].tuned.pictures, len(scan)
    done: list[AttackEvidence] = []
    drawn, of_base, before = 0, dict[str, int](), ""
    for key, whole in scan:
        controls, seen = 0, whole
        for look in looks(most):
            seen = first_pictures(whole, look, controls)
            if not ask or asks_for_controls(seen, planned, _POLICY, null):
                controls = look
                seen = first_pictures(whole, look, controls)
            if look < most and settled(seen, most, planned, _POLICY, null):
                break
        # The old way shared the pictures of the base with the aim before only.
        shared = min(controls, of_base.get(key, 0) if ask or key == before else 0)
        of_base[key] = max(of_base.get(key, 0), controls) if ask else controls
        drawn, before = drawn + seen.tuned.pictures + 2 * controls - shared, key
        done.append(seen)
        if enough(done, planned, _POLICY, null):
            break
    level = max(finding.severity for finding in judge(done, _POLICY, null, planned))
    return Replay(level.value, drawn)


def _told(found: Sequence[Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """Compare levels and evaluations, for all LoRAs and by kind."""
    kinds = ["all", *dict.fromkeys(one["kind"] for one in found)]
    table: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in found for name in one["outcomes"]):
        for kind in kinds:
            mine = [one for one in found if kind in ("all", one["kind"]) and name in one["outcomes"]]
            pairs = [one["outcomes"][name] for one in mine]
            spent = [
                [one["searched"] + plan.evaluations(way.pictures) for way in one["outcomes"][name]]
                for one in mine
            ]
            table.setdefault(name, {})[kind] = {
                "same level": share([before.level == now.level for before, now in pairs]),
                "median evaluations": [median(column) for column in zip(*spent, strict=True)],
                "median share of them": round(median(now / before for before, now in spent), 3),
                "levels": {
                    level: [sum(way.level == level for way in column) for column in zip(*pairs, strict=True)]
                    for level in sorted({way.level for pair in pairs for way in pair})
                },
            }
    return {"pictures at most": len(plan.seeds), **asdict(plan.sampling), "table": table}


if __name__ == "__main__":
    in_one_line(main)
