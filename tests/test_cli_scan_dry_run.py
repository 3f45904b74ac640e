"""`scan --dry-run`: the cost of a scan, by the very code that draws and stops."""

import dataclasses
import re
from pathlib import Path

import pytest

from loraudit.attacks.controls import effort
from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import COPIES, Plan, plan_for
from loraudit.attacks.search.gap import Climb
from loraudit.attacks.table import ATTACKS, names_at
from loraudit.audit import forecast as forecasting
from loraudit.audit.forecast import DECODING, Forecast, Measured, forecasts
from loraudit.audit.request import BUDGETS, Request
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card, models_dir
from loraudit.cli.dry_run import cost_text
from loraudit.lora import write_kohya
from tests.audits import ColourFace, random_lora
from tests.tiny import save_pipeline

EXAMPLE = models_dir() / "examples" / "example.safetensors"
PHOTOS = models_dir() / "examples" / "photos"
SD = base_card("sd15")


def asked(budget: str, **more) -> Request:
    quick = budget == "quick"
    return Request(attacks=names_at(budget), samples=BUDGETS[budget], quick=quick, **more)


def forecast(request: Request, target: Path = EXAMPLE) -> Forecast:
    (found,) = forecasts([str(target)], request, lambda _line: None)
    assert isinstance(found, Forecast), found
    return found


@pytest.fixture
def unmeasured(monkeypatch):
    """No base is loaded or timed."""
    monkeypatch.setattr(forecasting, "_measured", lambda *_: (Measured("cpu", unknown="nothing"), None, None))


@pytest.mark.parametrize("words", [0, 1, 2])
@pytest.mark.parametrize("likeness", [True, False])
def test_the_table_sketches_what_the_attacks_aim_at(words, likeness) -> None:
    """Names, shared embeddings, and evaluations at most; the search is shortened, its aims are not."""
    base: Base = load_base("tiny")
    metadata = {"instance_prompt": "zoe", "trained_words": "ada"} if words == 2 else {}
    metadata = {"instance_prompt": "zoe"} if words == 1 else metadata
    lora = random_lora(metadata, base)
    kit = Kit(base, Encoders(base, "tiny"), face=ColourFace(), likeness=likeness)
    seen = []
    for row in ATTACKS:
        if row.needs_photos or row.name == "paper":
            continue
        attack = row.open(kit)
        if row.name == "search":
            attack = dataclasses.replace(attack, ascent=dataclasses.replace(attack.ascent, steps=1))
        aims = attack.aims(lora, base)
        sketches = [
            one for one in row.sketches if one.needs_words <= words and (likeness or not one.needs_photos)
        ]
        assert [aim.attack for aim in aims] == [one.name for one in sketches]
        assert sum(aim.evaluations for aim in aims) <= row.searched(lora, False, True)
        assert (row.searched(lora, False, True) > 0) == any(aim.evaluations for aim in aims)
        seen += zip(aims, sketches, strict=True)
    assert len(seen) == 8 + words + likeness
    plan = Plan((0, 1), plan_for(SD, 2, None, 0).sampling)
    assert plan.most([aim for aim, _ in seen]) == plan.most_at([one.embedding for _, one in seen])


@pytest.fixture
def sd_lora(tmp_path, sd1_factors) -> Path:
    write_kohya(sd1_factors, tmp_path / "ada.safetensors")
    return tmp_path / "ada.safetensors"


@pytest.mark.usefixtures("unmeasured")
def test_the_costs_that_docs_state_are_those_of_the_code(sd_lora) -> None:
    """The table of docs/scan.md, for a LoRA without words of its own on Stable Diffusion."""
    table = (Path(__file__).parent.parent / "docs/scan.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`( with photos)? \| ([\d,]+) \| ([\d,]+) \|$", table, re.MULTILINE)
    assert len(rows) == 6
    for budget, photos, clean, most in rows:
        found = forecast(asked(budget, base="sd15", reference=PHOTOS if photos else None), sd_lora)
        assert (f"{found.clean.evaluations:,}", f"{found.most.evaluations:,}") == (clean, most)
    plain = forecast(asked("standard", base="sd15"), sd_lora)
    assert plain.attacks == ("search", "prompts")
    # All five aims stop at the first look; seven with controls took 8,048 before.
    assert plain.clean.pictures == 5 * 8 and plain.clean.evaluations <= 0.4 * 8048
    for reference in (None, PHOTOS):
        quick = forecast(asked("quick", base="sd15", reference=reference), sd_lora)
        assert quick.most.evaluations <= 1500


def test_the_minutes_that_docs_state_are_evaluations_over_published_rates() -> None:
    page = (Path(__file__).parent.parent / "docs/sd14.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"^\| evaluations a second \| \| (.+) \|$", page, re.MULTILINE)
    rates = [float(rate) for rate in told.split(" | ")]
    rows = re.findall(r"^\| `\w+`, [a-z ]+ \| ([\d,]+) \| ([\d. |]+) \|$", page, re.MULTILINE)
    assert len(rows) == 5 and len(rates) == 4
    costs = (Path(__file__).parent.parent / "docs/scan.md").read_text(encoding="utf-8")
    for evaluations, minutes in rows:
        assert f"| {evaluations} |" in costs
        counted = [int(evaluations.replace(",", "")) * DECODING / rate / 60 for rate in rates]
        assert [f"{one:.1f}" for one in counted] == minutes.split(" | ")


@pytest.mark.usefixtures("unmeasured")
def test_a_file_without_rows_is_climbed_and_one_with_words_has_more_aims(
    tmp_path, sd_lora, sd1_factors
) -> None:
    rowless = {site: pair for site, pair in sd1_factors.items() if ".attn2.to_" not in site}
    assert 0 < len(rowless) < len(sd1_factors)
    write_kohya(rowless, tmp_path / "rowless.safetensors")
    write_kohya(sd1_factors, tmp_path / "told.safetensors", {"instance_prompt": "a photo of zoe"})
    plain, climbed, told = (
        forecast(asked("standard", base="sd15"), path)
        for path in (sd_lora, tmp_path / "rowless.safetensors", tmp_path / "told.safetensors")
    )
    assert climbed.clean.evaluations - plain.clean.evaluations == Climb().evaluations - 16
    assert (told.aims, plain.aims) == (6, 5)
    assert told.most.evaluations - plain.most.evaluations == (2 * 16 + COPIES * 8) * 50 + COPIES * effort(8)


def test_it_says_what_it_would_cost_and_draws_nothing(scan, monkeypatch) -> None:
    monkeypatch.setattr(Base, "sample", lambda *_: pytest.fail("a picture"))
    code, out, err = scan(EXAMPLE, "--dry-run", "--reference", PHOTOS)
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines()[1:])
    assert out.splitlines()[0] == "example.safetensors"
    assert lines["base"] == "tiny, 12 steps, guidance 3"
    assert lines["attacks"] == "search, encoder, prompts, likelihood (7 aims)"
    assert lines["pictures"] == "at most 304; 56 if nothing comes back"
    assert re.fullmatch(r"at most 10,\d{3}; 4,\d{3} if nothing comes back", lines["evaluations"])
    assert re.fullmatch(r"about 0\.\d GiB on cpu, \d+\.\d GiB free", lines["memory"])
    assert re.fullmatch(
        r"at most .+; .+ if nothing comes back \(cpu, [\d.e-]+ s an evaluation\)", lines["time"]
    )


def test_without_the_base_time_and_memory_are_unknown(scan) -> None:
    code, out, _ = scan(EXAMPLE, "--dry-run", "--base", "sd15", "--budget", "quick")
    assert code == 0
    assert "at most 26; 16 if nothing comes back" in out
    assert out.count("unknown: the base sd15 is not on this machine") == 2


def test_a_folder_is_measured_and_several_targets_are_summed(scan, tmp_path) -> None:
    folder = save_pipeline(tmp_path / "base")
    code, out, _ = scan(EXAMPLE, EXAMPLE, "--dry-run", "--base", folder, "--attack", "prompts")
    assert code == 0
    assert out.count("  attacks      prompts (3 aims)\n") == 2
    assert re.search(r"^all 2 targets: at most .+ if nothing comes back \(cpu\)$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nowhere.safetensors",), 2),
        ((EXAMPLE, "nowhere.safetensors"), 2),
        ((EXAMPLE, "--base", "nowhere"), 2),
        ((EXAMPLE, "--reference", "nowhere"), 2),
        ((EXAMPLE, "--depth", "weights"), 2),
        ((models_dir() / "tiny-clip" / "model.safetensors",), 3),
    ],
)
def test_bad_input_has_its_exit_code_and_one_line(scan, words, code) -> None:
    found, out, err = scan(*words, "--dry-run", "--attack", "prompts")
    assert found == code
    assert err.startswith("loraudit: error: ") and "Traceback" not in err
    assert ("example.safetensors" in out) == (words == (EXAMPLE, "nowhere.safetensors"))


def test_a_second_an_evaluation_is_an_hour_of_so_many() -> None:
    found = dataclasses.replace(_some_forecast(), here=Measured("cuda", 1.0, 1, None), memory=5 * 2**30)
    text = cost_text(found)
    assert "  memory       about 5.0 GiB on cuda\n" in text
    assert "  time         at most 1.8 h; 64 s if nothing comes back (cuda, 1 s an evaluation)\n" in text


def _some_forecast() -> Forecast:
    from loraudit.audit.forecast import Cost

    most, clean = Cost(90, 6000), Cost(2, 60)
    return Forecast(
        "x", "sd15", plan_for(SD, 8, None, 0), ("search",), 2, most, clean, Measured("cuda"), None
    )
