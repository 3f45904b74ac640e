"""The calibration data that a scan was asked for are used, and no others."""

import shutil
from pathlib import Path

import pytest

from loraudit.audit.request import Request
from loraudit.audit.setup import set_up
from loraudit.cards import models_dir
from loraudit.errors import LorauditError


def used(calibration: str | None) -> tuple[str, int] | None:
    setup = set_up(
        Request(base="tiny", attacks=(), calibration=calibration, device="cpu"), "tiny", "tiny", (), print
    )
    return None if setup.calibration is None else (setup.calibration.name, len(setup.calibration.controls))


def test_calibration_is_the_bases_own_or_the_one_asked_for(tmp_path: Path) -> None:
    own = used(None)
    assert own is not None and own[0] == "calibration-tiny"
    assert used("calibration-tiny") == own
    copy = tmp_path / "mine"
    shutil.copytree(models_dir() / "calibration-tiny", copy)
    assert used(str(copy)) == ("mine", own[1])
    (copy / "calibration.json").write_text("{")
    with pytest.raises(LorauditError, match="mine cannot be read"):
        used(str(copy))
