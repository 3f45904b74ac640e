"""What each attack adds: a table from calibration data alone."""

import json

import pytest

from benchmarks.tables.aims_needed import main, power
from loraudit.cards import models_dir
from loraudit.evidence.calibration import Calibration, Conditions, Control, Leaking

HERE = Conditions("b", "f" * 64, 12, 3.0, {}, {}, "a" * 64)
ALONE = {"weak": (0.1,), "strong:one": (0.2,), "strong:two": (0.9,)}


def data(*people: dict[str, tuple[float, ...]]) -> Calibration:
    controls = tuple(Control("things", {"weak": (at / 100,), **_strong(0.0)}) for at in range(40))
    return Calibration("c", HERE, (8,), controls, leaking=tuple(Leaking(one, {}) for one in people))


def _strong(share: float) -> dict[str, tuple[float, ...]]:
    return {"strong:one": (share,), "strong:two": (0.0,)}


def test_an_attack_that_finds_somebody_alone_is_missed_and_one_that_does_not_is_not() -> None:
    made = data(ALONE, {"weak": (0.3,), **_strong(0.5)})
    both = power(made, ["strong", "weak"])
    assert (
        both
        == power(made, ["strong"]) | {"highest control": 0.39}
        == {
            "above all controls": 1.0,
            "area": 1.0,
            "highest control": 0.39,
        }
    )
    assert power(made, ["weak"])["area"] < 1 and power(made, ["weak"])["above all controls"] == 0


def test_docs_state_the_table_of_the_shipped_data(capsys) -> None:
    main([str(models_dir() / "calibration-tiny")])
    table = json.loads(capsys.readouterr().out)
    page = (models_dir().parent / "docs/results.md").read_text(encoding="utf-8")
    for left_out, found in table.items():
        name = left_out if left_out == "all" else f"without `{left_out.split()[1]}`"
        assert f"| {name} | {found['above all controls']:.3f} | {found['area']:.4f} |" in page


def test_a_folder_without_data_is_one_line(capsys) -> None:
    from loraudit.cli.failures import in_one_line

    with pytest.raises(SystemExit) as stop:
        in_one_line(lambda: main(["nowhere"]))
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") <= 2
