"""docs/api.md: its examples run as they stand and print what stands below them."""

import re
from pathlib import Path

import pytest

import loraudit

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SHARE = r"0\.\d+|1\.0"
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)


def test_the_names() -> None:
    table = PAGE.split("The public names stay")[0]
    told = set(re.findall(r"`(\w+)(?:\([^)]*\))?`", table)) - {"hint", "exit_code"}
    assert told == set(loraudit.__all__) - {"__version__"}
    assert all(getattr(loraudit, name) is not None for name in loraudit.__all__)


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["attack", "pictures", "words", "scan"])
def test_the_examples(code, shown, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "docs/api.md", "exec"), {})  # noqa: S102
    out = capsys.readouterr().out
    # A share of eight pictures may differ by one between machines; whether there is a finding must not.
    assert re.sub(SHARE, "#", out) == re.sub(SHARE, "#", shown)
    told = [float(share) for share in re.findall(SHARE, shown)]
    assert [float(share) for share in re.findall(SHARE, out)] == pytest.approx(told, abs=1 / 8)
