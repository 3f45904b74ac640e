"""The tables of calibrations: hours at full size, and a self-made one against the one that ships."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.tables import calibration_cost, self_made
from benchmarks.tables.self_made import compared
from loraudit.cards import models_dir
from loraudit.evidence.calibration import Calibration, load_calibration

PAGE = Path(__file__).parent.parent / "docs/sd14.md"


@pytest.fixture(scope="module")
def shipped() -> Calibration:
    return load_calibration(models_dir() / "calibration-tiny")


def test_the_hours_are_those_of_the_page(capsys) -> None:
    work = calibration_cost.work_at_full_size()
    page = PAGE.read_text(encoding="utf-8")
    for told in (
        f"drawing {work.pictures:,} pictures | {work.drawn:,} evaluations",
        f"{work.class_pictures:,} evaluations",
        f"fine-tuning {work.loras} LoRAs | {work.trained:,} samples",
        f"measuring {work.measured} LoRAs | {work.evaluations:,} evaluations",
        f"looking at {work.pictures + work.looks:,} pictures",
    ):
        assert told in page, told
    calibration_cost.main([])
    hours = re.findall(r"in all (\d+\.\d) h", capsys.readouterr().out)
    assert "| **in all** | " + " | ".join(f"**{one}**" for one in hours) + " |" in page


def test_a_calibration_agrees_with_itself(shipped: Calibration) -> None:
    record = compared(shipped, shipped)
    assert record["conditions are equal"]
    by_itself = record["shipped controls by the self-made"]
    assert by_itself["all"] == record["self-made controls by the shipped"]
    for level, most in (("high", 0.01), ("medium", 0.05), ("low", 0.1)):
        k, n, low, high = by_itself["all"][level]
        assert k <= most * n and low <= k / n <= high
        # Whoever reaches the score of a level is above it, and nobody below is.
        least = record["score for a level"]["shipped"][level]
        tops = [self_made._top(one.scores, set(one.scores)) for one in shipped.controls]
        assert sum(top >= least for top in tops) == k
    areas = record["area of people"]
    assert areas["shipped"] == areas["self-made"] and areas["shipped"]["value"] > 0.9


def test_controls_that_score_too_low_raise_false_alarms(shipped: Calibration) -> None:
    def low(scores):
        return {name: tuple(share / 4 for share in shares) for name, shares in scores.items()}

    mild = replace(shipped, controls=tuple(replace(one, scores=low(one.scores)) for one in shipped.controls))
    record = compared(shipped, mild)
    k, n, lower, _ = record["shipped controls by the self-made"]["all"]["high"]
    assert k / n > lower > 0.01
    assert record["self-made controls by the shipped"]["low"][0] == 0
    other = replace(mild, conditions=replace(mild.conditions, steps=25))
    assert not compared(shipped, other)["conditions are equal"]
    json.dumps(record)


def test_few_loras_reach_no_level_and_are_compared_all_the_same(shipped: Calibration) -> None:
    few = replace(
        shipped, controls=shipped.controls[:18], matches=shipped.matches[:2], leaking=shipped.leaking[:2]
    )
    record = compared(shipped, few)
    # Of 18 controls the lowest p-value is 1 in 19.
    assert set(record["score for a level"]["self-made"]) == {"low"}
    by_few = record["shipped controls by the self-made"]["all"]
    assert by_few["high"][:2] == by_few["medium"][:2] == [0, 174]
    assert record["area of people"]["self-made"]["harmless"] == 18
