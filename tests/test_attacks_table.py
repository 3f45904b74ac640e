"""A new attack is a row of the table of attacks: nothing else has to know its name.

The rows are added as a file of the table would have them, before anything else of loraudit is imported.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import plan_for
from loraudit.attacks.search.inversion import Effort, InversionAttack
from loraudit.attacks.table import ATTACKS, names_at
from loraudit.audit.request import BUDGETS, QUICK_CONTROLS
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card, models_dir
from loraudit.lora import write_kohya
from tests.audits import ColourFace, random_factors, random_lora

ROOT = Path(__file__).parent.parent
ROWS = """
import json, sys
from loraudit.attacks import table
from loraudit.errors import Incomplete

class Toy:
    name = "toy"

    def aims(self, lora, base):
        from loraudit.attacks.aim import Aim
        return [Aim("toy", base.encode_text(["A face."])[0]), Aim("toy:again", base.encode_text([""])[0])]

class ToyPhotos:
    name, evaluations = "toyphotos", 7

    def __init__(self, photos):
        self.photos = photos

    def run(self, tuned, base, embedding):
        from loraudit.evidence.likelihood import Likelihood
        assert tuned.loras == 1 and base.loras == 0
        return Likelihood(0.0, (0.0,) * 20, len(self.photos))

def photos(kit):
    if not kit.photos:
        raise Incomplete("it needs photos of a toy")
    return ToyPhotos(kit.photos)

def nothing(kit):
    raise Incomplete("the toy is broken")

NEW = (
    table.Row("toy", ("standard",), lambda kit: Toy()),
    table.Row("toyphotos", ("standard",), photos, needs_photos=True),
    table.Row("toybroken", ("standard",), nothing),
)
table.ATTACKS = (NEW[0], *(row for row in table.ATTACKS if row.name == "prompts"), *NEW[1:])

from loraudit.cli import main

codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["loraudit", *words]
    try:
        main()
    except SystemExit as stop:
        codes.append(stop.code or 0)
    sys.stdout.flush()
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> Path:
    base: Base = load_base("tiny")
    path = tmp_path_factory.mktemp("lora") / "ada.safetensors"
    write_kohya(random_factors(base), path)
    return path


@pytest.fixture(scope="module")
def scans(lora, tmp_path_factory) -> dict[str, Any]:
    """Exit code and report of scans with the longer table; the help, and all that went to stderr."""
    out = tmp_path_factory.mktemp("out")
    photos = ["--reference", str(models_dir() / "examples" / "photos")]
    asked = {
        "named": ["--attack", "toybroken", "--attack", "toyphotos", "--attack", "toy"],
        "photos": ["--attack", "toyphotos", "--attack", "toy", *photos],
        "budget": ["--budget", "standard"],
        "not in it": ["--attack", "search"],
    }
    common = ["--offline", "--device", "cpu", "--samples", "2", "--steps", "2", "--fail-on", "never"]
    words = [
        ["scan", str(lora), *common, *options, "-o", f"json={out / name}"] for name, options in asked.items()
    ]
    run = subprocess.run(
        [sys.executable, "-c", ROWS, json.dumps([*words, ["scan", "--help"]])],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "Traceback" not in run.stderr
    *codes, help_code = json.loads(run.stdout.splitlines()[-1])
    found: dict[str, Any] = {"help": (help_code, run.stdout), "stderr": run.stderr}
    for name, code in zip(asked, codes, strict=True):
        file = out / name
        found[name] = (code, json.loads(file.read_text()) if file.exists() else None)
    return found


def test_it_runs_and_stands_in_the_report(scans) -> None:
    code, report = scans["photos"]
    assert code == 4  # two pictures are too few to say anything
    assert report["settings"]["attacks"] == ["toy", "toy:again", "toyphotos"]
    assert {score["attack"] for score in report["scores"]} >= {"toy", "toy:again"}
    assert report["incomplete"] == []


def test_the_help_offers_it(scans) -> None:
    code, out = scans["help"]
    assert code == 0
    assert "<toy|prompts|toyphotos|toybroken>" in "".join(out.split())


def test_a_row_that_cannot_open_is_missing_if_it_was_asked_for(scans) -> None:
    code, report = scans["named"]
    assert code == 4
    assert report["settings"]["attacks"] == ["toy", "toy:again"]
    assert report["incomplete"] == [
        {"what": "attack toyphotos", "why": "it needs photos of a toy"},
        {"what": "attack toybroken", "why": "the toy is broken"},
    ]


def test_its_budget_and_its_place_are_those_of_the_row(scans) -> None:
    _, report = scans["budget"]
    prompts = [f"prompts:{name}" for name in ("no-trigger", "class", "any-name")]
    assert report["settings"]["attacks"] == ["toy", "toy:again", *prompts]
    assert report["incomplete"] == []
    assert "left out: attack toybroken: the toy is broken" in scans["stderr"]
    assert "left out: attack toyphotos" not in scans["stderr"]


def test_what_is_not_in_the_table_is_no_attack(scans, scan, lora) -> None:
    assert scans["not in it"] == (2, None)
    assert "toy" not in {row.name for row in ATTACKS}
    code, out, err = scan(lora, "--attack", "toy", "--offline", "--device", "cpu")
    assert (code, out) == (2, "")
    assert "Invalid value for '--attack': 'toy' is not one of 'search'" in err


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("photos", [True, False])
def test_a_quick_scan_costs_at_most_1500_evaluations_on_sd(rows, photos) -> None:
    """Counted with its own code at SD's settings: 25 steps with guidance and no encoder.

    LoRAs whose rows say nothing of the prompt are climbed, at more evaluations.
    """
    base = load_base("tiny")
    kit = Kit(base, Encoders(base, "sd15"), [torch.zeros(3, 64, 64)] * photos, quick=True)
    ends = ("attn2.to_v",) if rows else ("attn1.to_q",)
    factors = random_factors(base, ends=ends)
    lora = dataclasses.replace(random_lora(), factors=factors)
    drawing = [row.open(kit) for row in ATTACKS if row.name in names_at("quick")]
    aims = [aim for attack in drawing for aim in attack.aims(lora, base)]
    card = base_card("sd15")
    assert (card.steps, card.guidance) == (25, 7.5)
    plan = plan_for(card, BUDGETS["quick"], None, 0, QUICK_CONTROLS)
    searched = sum(aim.evaluations for aim in aims)
    assert 0 < searched <= 200
    assert searched + plan.most(aims) <= 1500
    # The negative control: a whole search, and controls for every aim.
    whole = plan_for(card, BUDGETS["standard"], None, 0)
    assert whole.most(aims) > 1500


@pytest.mark.parametrize(
    ("family", "face", "quick", "inverts"),
    [
        ("sd15", True, False, True),
        ("sd15", True, True, False),
        ("sd15", False, False, False),
        ("tiny", True, False, False),
    ],
)
def test_the_search_inverts_where_no_encoder_ships(family, face, quick, inverts) -> None:
    base = load_base("tiny")
    kit = Kit(base, Encoders(base, family), face=ColourFace() if face else None, quick=quick)
    row = ATTACKS[0]
    attack = row.open(kit)
    assert (row.name, attack.name) == ("search", "search")
    assert isinstance(attack, InversionAttack) is inverts
    lora = random_lora()
    longer = row.searched(lora, quick, False) - row.searched(lora, quick, True)
    assert longer == (0 if quick else Effort().evaluations)
