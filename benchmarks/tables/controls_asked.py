"""Levels and cost of a scan that draws controls on demand, beside one that draws all of them.

    python -m benchmarks.tables.controls_asked runs/asked --leaking runs/people --harmless runs/things \
        runs/styles runs/crowds --loras 40
    python -m benchmarks.tables.controls_asked runs/asked-all --faces runs/verdict --loras 300

Two scans are replayed on the same pictures: one with both controls for every picture, as it once was, and one
with those that the pictures ask for. Leaking LoRAs are compared with photos of their person, harmless ones
with photos of a stranger, and each is judged with and without photos and calibration data.

The first form attacks every LoRA once, as on a base without an encoder, and draws as far as any of the scans
goes: about a minute of one core a LoRA. The second form takes the faces that `loraudit bench verdict` kept of
the search with an encoder, with all of their controls, and draws nothing: about a second a LoRA. An
interrupted run goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from benchmarks.tables.controls_replay import POLICY, Way, replayed
from loraudit.attacks.aim import Aim, Reconstruction
from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kept import key_of
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import Plan, plan_for
from loraudit.attacks.table import ATTACKS, names_at, version_of
from loraudit.audit.setup import Setup
from loraudit.base.load import load_base
from loraudit.base.lowrank import Terms
from loraudit.base.model import CLASS_PROMPT, Sampling
from loraudit.bench.cases import PHOTOS, Case, cases, share, strangers
from loraudit.bench.conditions import as_lora
from loraudit.bench.faces import pools, read_pool, zoos_in
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.evidence.calibration import Calibration, load_calibration
from loraudit.evidence.merging import Spread
from loraudit.evidence.null import Null
from loraudit.lora.directions import directions
from loraudit.people.sources import REFERENCES, Synthetic, portraits
from loraudit.runs import Run, unheard
from loraudit.scores import FaceScorer
from loraudit.scores.scorers import Scorers, look_at, open_scorers

__all__ = ["main"]

_ROWS: Final = "outcomes.jsonl"
_DRAWING: Final = ("search", "guidance", "prompts")
"""Attacks without an encoder that draw pictures."""
_SAMPLING: Final = Sampling()
"""Any sampling: all aims of a run have one."""
_NO_ENCODER: Final = "sd15"
"""Family for which no encoder ships."""


@dataclass(frozen=True, eq=False)
class _Case:
    """LoRA to attack, and the person whose photos it is compared with."""

    kind: str
    where: str
    terms: Terms
    row: int
    person: int


class _Replays:
    """All ways to scan one LoRA, fed while its pictures are drawn."""

    def __init__(self, ways: Mapping[str, tuple[Way, Way]], alone: Scorers, photos: Scorers) -> None:
        self.ways = ways
        self._scorers = {"alone": alone, "photos": photos}
        self._aim: Aim | None = None

    def look(self, found: Reconstruction) -> bool:
        """Look at the pictures of an aim; tell whether no way waits for more of them."""
        aim = found.aim
        key = key_of(aim.embedding, _SAMPLING).hex()
        waits = False
        for judged, scorers in self._scorers.items():
            if judged == "alone" and aim.likeness_only:
                continue
            evidence = found.weighed(scorers)
            for way in (way for name, pair in self.ways.items() if name.startswith(judged) for way in pair):
                if aim is not self._aim:
                    way.begin()
                way.look(key, evidence)
                waits = waits or way.waits
        self._aim = aim
        return not waits

    def over(self) -> bool:
        """Tell whether no way needs a further aim."""
        return all(way.over for pair in self.ways.values() for way in pair)


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, attack what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of this run")
    parser.add_argument("--leaking", type=Path, nargs="+", default=[], help="zoos of people")
    parser.add_argument("--harmless", type=Path, nargs="+", default=[], help="zoos of nobody")
    parser.add_argument("--faces", type=Path, help="folder of `loraudit bench verdict`, in place of zoos")
    parser.add_argument("--loras", type=int, default=300, help="LoRAs at most, half of them leaking")
    parser.add_argument("--attack", nargs="+", default=[n for n in names_at("standard") if n in _DRAWING])
    parser.add_argument("--calibration", type=Path, help="folder of calibration data [default: the bundled]")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, help="steps of a picture [default: those of the base]")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = load_base("tiny")
    scorers, _ = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, offline=True)
    if scorers is None:
        raise ValueError("the embedded base without a face model")
    # What is not judged need not be measured.
    scorers = replace(scorers, clip=None)
    kit = Kit(base, Encoders(base, _NO_ENCODER), face=scorers.face, likeness=True)
    attacks: list[Any] = [row.open(kit) for row in ATTACKS if row.name in options.attack]
    data = load_calibration(options.calibration or models_dir() / "calibration-tiny")
    setup = Setup(base, tuple(attacks), scorers, calibration=data)
    plan = plan_for(base.card, options.samples, options.steps, 0)
    run = Run(options.out)
    about = {"attacks": {name: version_of(name) for name in options.attack}, "policy": POLICY.version}
    about |= {"seeds": plan.seeds, **asdict(plan.sampling), "calibration": asdict(data.conditions)}
    settings = json.dumps(about) + "\n"
    run.begin("settings.json", settings, lambda old: "" if old == settings else "a run with other settings")
    done = {row["where"] for row in run.rows(_ROWS)}
    if options.faces is None:
        work = _in_turn(options.leaking, options.harmless, setup, plan)
    else:
        work = _measured(options.faces, scorers.face, data, len(plan.seeds))
    for number, (where, judge_it) in enumerate(islice(work, options.loras)):
        print(f"{number} of {options.loras}: {where}", file=sys.stderr, flush=True)
        if where not in done:
            run.append(_ROWS, {"where": where, **judge_it()})
    text = json.dumps(_told(list(run.rows(_ROWS)), plan), indent=1) + "\n"
    run.write("table.json", text)
    sys.stdout.write(text)


def _in_turn(
    leaking: Sequence[Path], harmless: Sequence[Path], setup: Setup, plan: Plan
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the LoRAs of zoos, one of either side and of every zoo in turn, each with its attack."""
    sides = [list(_cases(folders)) for folders in (leaking, harmless)]
    for case in (case for pair in zip_longest(*sides) for case in pair if case is not None):
        yield case.where, partial(_attacked, case, setup, plan)


def _cases(folders: Sequence[Path]) -> Iterator[_Case]:
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
    """Attack one LoRA until every way to scan it has its answer."""
    lora, alone, data = as_lora(case.terms, case.row), setup.scorers, setup.calibration
    if alone is None or data is None:
        raise ValueError("a setup without a face model or calibration data")
    photos = tuple(portraits(case.person, REFERENCES.start, PHOTOS))
    with_photos = replace(alone, references=look_at(photos, alone.face, None))
    aims, _ = setup.aims(lora, unheard)
    names = [aim.among_controls for aim in aims if not aim.likeness_only]
    extra = [aim.attack for aim in aims if aim.likeness_only]
    nulls = _nulls(data, names, extra, len(plan.seeds), directions(lora))
    ways = {}
    for name, null in nulls.items():
        count = len(names) + len(extra) * name.startswith("photos")
        ways[name] = (Way(False, count, null, len(plan.seeds)), Way(True, count, null, len(plan.seeds)))
    replays = _Replays(ways, alone, with_photos)
    ordered, end = plan.in_order(aims), replays.over
    for found in plan.reconstruct(
        lora, setup.base, ordered, unheard, settled=replays.look, enough=end, kept=setup.kept
    ):
        replays.look(found)
    return {"kind": case.kind, "searched": sum(aim.evaluations for aim in aims), "outcomes": _kept(ways)}


def _measured(
    folder: Path, face: FaceScorer, data: Calibration, most: int
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the LoRAs whose faces are in `folder`, one of every zoo in turn, each with its replays."""
    rows: list[list[tuple[str, Callable[[], dict[str, Any]]]]] = []
    for file in sorted(folder.glob("*.safetensors")):
        pool = read_pool(file)
        people = pool.identities or strangers(len(pool.kinds), 100 * len(rows))
        rows.append([
            (f"{pool.name}/{at}", partial(_replayed, case, data, most))
            for at, case in enumerate(cases(pool, people, face, most))
        ])  # fmt: skip
    for together in zip_longest(*rows):
        yield from (one for one in together if one is not None)


def _replayed(case: Case, data: Calibration, most: int) -> dict[str, Any]:
    names = [one.attack for one in case.evidence]
    extra = [one.attack for one in case.referenced if one.likeness_only]
    ways = {}
    for name, null in _nulls(data, names, extra, most, case.spread).items():
        # All aims of the search have one embedding.
        scan = [("", one) for one in (case.evidence if name.startswith("alone") else case.referenced)]
        ways[name] = (replayed(scan, null, False), replayed(scan, null, True))
    kind = "person" if case.kind == Synthetic.name else case.kind
    return {"kind": kind, "searched": 0, "outcomes": _kept(ways)}


def _nulls(
    data: Calibration, names: Sequence[str], extra: Sequence[str], most: int, spread: Spread | None
) -> dict[str, Null | None]:
    """Map each way to judge a LoRA to its null: alone and with photos, by its own controls and calibrated.

    Either scan takes the same null, so data by an earlier version of an attack do as well.
    """
    found: dict[str, Null | None] = {}
    for judged, more in (("alone", ()), ("photos", tuple(extra))):
        null, _ = data.fit(data.conditions, tuple(names), most, spread, more)
        found |= {f"{judged}, in-scan controls": None}
        found |= {} if null is None else {f"{judged}, calibrated": null}
    return found


def _kept(ways: Mapping[str, tuple[Way, Way]]) -> dict[str, list[list[object]]]:
    return {name: [[way.level, way.pictures] for way in pair] for name, pair in ways.items()}


def _told(found: Sequence[Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """Compare levels and evaluations, for all LoRAs and by kind."""
    kinds = ["all", *dict.fromkeys(one["kind"] for one in found)]
    table: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in found for name in one["outcomes"]):
        for kind in kinds:
            mine = [one for one in found if kind in ("all", one["kind"]) and name in one["outcomes"]]
            levels = [[level for level, _ in one["outcomes"][name]] for one in mine]
            spent = [
                [one["searched"] + plan.evaluations(pictures) for _, pictures in one["outcomes"][name]]
                for one in mine
            ]
            table.setdefault(name, {})[kind] = {
                "same level": share([before == now for before, now in levels]),
                "median evaluations": [median(column) for column in zip(*spent, strict=True)],
                "median share of them": round(median(now / before for before, now in spent), 3),
                "levels": {
                    level: [column.count(level) for column in zip(*levels, strict=True)]
                    for level in sorted({level for pair in levels for level in pair})
                },
            }
    return {"pictures at most": len(plan.seeds), **asdict(plan.sampling), "table": table}


if __name__ == "__main__":
    in_one_line(main)
