"""Attacks that were asked for: each runs, or stands in the report as not looked at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraudit.attacks.table import ATTACKS
from loraudit.base.load import load_base
from loraudit.cards import models_dir
from loraudit.lora import write_kohya
from tests.audits import random_factors
from tests.test_cli_scan_answers import told

Scan = Callable[..., tuple[int, str, str]]
SHORT = ("--samples", 2, "--steps", 2, "--device", "cpu", "--offline", "-f", "json")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "ada.safetensors"
    write_kohya(random_factors(load_base("tiny")), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photo, which a comparison is done with sooner."""
    folder = tmp_path_factory.mktemp("photos")
    first = min((models_dir() / "examples" / "photos").glob("*.png"))
    (folder / first.name).write_bytes(first.read_bytes())
    return folder


def test_likelihood_runs_alone(scan: Scan, tiny: Path, photos: Path) -> None:
    """It draws nothing, and comes to the same result as in a scan with the attack that aims it."""
    alone, beside = (
        told(
            scan(
                tiny, "--attack", "likelihood", *more, "--reference", photos, *SHORT,
            )[1]
        )
        for more in ((), ("--attack", "search"))
    )  # fmt: skip
    assert alone["settings"]["attacks"] == ["likelihood"] and alone["incomplete"] == []
    (found,) = [finding for finding in alone["findings"] if finding["id"].startswith("LA-IDENTITY")]
    assert found["id"] == "LA-IDENTITY-004"
    (same,) = [finding for finding in beside["findings"] if finding["id"] == "LA-IDENTITY-004"]
    assert found == same
    assert alone["settings"]["evaluations"]["spent"] < beside["settings"]["evaluations"]["spent"]


def test_the_example_is_known_by_likelihood_alone(scan: Scan) -> None:
    code, out, _ = scan("--example", "--attack", "likelihood", "--offline", "--device", "cpu")
    assert code == 0  # medium, below the threshold
    assert "99 of 99 other people" in " ".join(out.split())
    assert "nothing of what was asked for" in out and "Scores (control)" not in out


@pytest.mark.parametrize("attack", [row.name for row in ATTACKS])
@pytest.mark.parametrize("compared", [False, True])
def test_an_attack_asked_for_runs_or_is_named_as_not_looked_at(
    attack: str, compared: bool, scan: Scan, tiny: Path, photos: Path
) -> None:
    reference = ("--reference", photos) if compared else ()
    _, out, _ = scan(tiny, *SHORT, "--attack", attack, *reference)
    report = told(out)
    ran = {name.partition(":")[0] for name in report["settings"]["attacks"]}
    missed = {gap["what"] for gap in report["incomplete"]}
    assert (attack in ran) is not (f"attack {attack}" in missed)
