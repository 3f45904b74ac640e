"""`loraudit calibrate` as it is typed: what it says before it starts, and what it refuses."""

import sys
from pathlib import Path

import pytest

from loraudit.audit import calibrate_base as making
from loraudit.cli import main
from loraudit.training.control_plans import Sizes
from tests.miniature import SIZES, in_small
from tests.tiny import save_pipeline

QUICK = ("--attack", "guidance", "--samples", "2", "--steps", "1", "--device", "cpu", "--offline")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "mine")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    look_ahead = making.look_ahead

    def few(request, name, out, sizes: Sizes = SIZES):
        return look_ahead(request, name, out, sizes)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", "calibrate", *map(str, arguments)])
        monkeypatch.setattr(making, "look_ahead", few)
        with pytest.raises(SystemExit) as stop, in_small():
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def test_a_dry_run_tells_and_makes_nothing(run, base, tmp_path) -> None:
    code, out, _ = run("--base", base, "--dry-run", *QUICK)
    assert code == 0 and not (tmp_path / "data").exists()
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert out.startswith("calibration of mine\n")
    assert "9 to fine-tune" in lines["LoRAs"] and "11 LoRAs" in lines["measuring"]
    # Two aims of two pictures, of one step with two predictions.
    assert "88 evaluations" in lines["measuring"] and "in all (cpu" in lines["time"]
    assert str(tmp_path / "data" / "loraudit" / "calibrations") in lines["folder"]


def test_it_is_made_where_a_scan_finds_it(run, base) -> None:
    from loraudit.audit.auditor import Auditor
    from tests.audits import random_lora
    from tests.miniature import request

    code, out, err = run("--base", base, *QUICK)
    assert (code, out) == (0, "") and "in all (cpu" in err and "left in all: " in err
    assert "8 control LoRAs and 3 of people: scans of this base find it" in err
    with in_small():
        used = Auditor(request(base, ("guidance",))).audit(random_lora()).settings.calibration
    # Eight controls are too few to judge with, which the report says.
    assert used is not None and used.controls == 8 and "99 control LoRAs or more" in (used.unused or "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--identities", "x"), "--identities goes with --controls"),
        (("--controls", "x"), "--controls needs --output"),
        (("--controls", "x", "-o", "y", "--dry-run"), "has no --dry-run"),
        (("--controls", "x", "-o", "y"), "there is no folder x"),
        (("--base", "no-such"), "no-such"),
    ],
)
def test_what_does_not_go_together_is_one_line(run, arguments, why) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and why in err
