"""`--baseline` and `--allow`: what they let pass, what they do not, and that everything stays visible."""

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loraudit.metadata.scrub import scrub
from tests.headers import KOHYA, write

METADATA = ("--depth", "metadata")
Scan = Callable[..., tuple[int, str, str]]
TODAY = datetime.now(UTC).date()


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    return write(tmp_path / "jane.safetensors", KOHYA)


def write_baseline(scan: Scan, path: Path, *arguments: object) -> Path:
    assert scan(*arguments, *METADATA, "--format", "json", "-o", path)[0] in {0, 1}
    return path


def write_allow(path: Path, *entries: str) -> Path:
    path.write_text("\n".join(f"[[allow]]\n{entry}" for entry in entries), encoding="utf-8")
    return path


def entry(
    path: Path, rule: str, expires: object = None, key: str = "sha256", digest: str | None = None
) -> str:
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f'{key} = "{digest}"', f'rule = "{rule}"', 'reason = "Jane agreed."']
    return "\n".join([*lines, f"expires = {expires}"] if expires else lines)


def findings(scan: Scan, *arguments: object) -> dict[str, dict[str, object]]:
    return {one["id"]: one for one in json.loads(scan(*arguments, *METADATA, "-f", "json")[1])["findings"]}


def test_what_the_baseline_knows_does_not_count_and_stays_visible(
    scan: Scan, leaky: Path, tmp_path: Path
) -> None:
    assert scan(leaky, *METADATA)[0] == 1
    baseline = write_baseline(scan, tmp_path / "baseline.json", leaky)
    code, out, _ = scan(leaky, *METADATA, "--baseline", baseline, "--fail-on", "low")
    assert code == 0
    assert "VERDICT: HIGH" in out and "KNOWN  The training folders name the subject" in out
    assert all(one["known"] is True for one in findings(scan, leaky, "--baseline", baseline).values())
    assert all(one["known"] is None for one in findings(scan, leaky).values())


def test_what_is_new_counts(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    baseline = write_baseline(scan, tmp_path / "baseline.json", leaky)
    write(leaky, KOHYA | {"modelspec.author": "jane@example.org"})
    assert scan(leaky, *METADATA, "--baseline", baseline)[0] == 0
    assert scan(leaky, *METADATA, "--baseline", baseline, "--fail-on", "medium")[0] == 1
    found = findings(scan, leaky, "--baseline", baseline)
    assert [rule for rule, one in found.items() if one["known"] is False] == ["LA-CONTACT-001"]
    other = write(tmp_path / "john.safetensors", KOHYA)
    assert scan(other, *METADATA, "--baseline", baseline)[0] == 1, "another file"


def test_what_got_worse_counts(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    write(leaky, {"ss_dataset_dirs": '{"10_red car": {"img_count": 25}}'})
    baseline = write_baseline(scan, tmp_path / "baseline.json", leaky)
    assert scan(leaky, *METADATA, "--baseline", baseline, "--fail-on", "low")[0] == 0
    write(leaky, {"ss_dataset_dirs": '{"10_jane doe person": {"img_count": 25}}'})
    assert scan(leaky, *METADATA, "--baseline", baseline)[0] == 1


def test_two_files_of_one_name_need_two_findings(scan: Scan, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.safetensors", KOHYA)
    pair = [tmp_path / folder / "x.safetensors" for folder in ("a", "b")]
    one = write_baseline(scan, tmp_path / "one.json", pair[0])
    two = write_baseline(scan, tmp_path / "two.json", *pair)
    assert scan(*pair, *METADATA, "--baseline", one)[0] == 1
    assert scan(*pair, *METADATA, "--baseline", two)[0] == 0
    folder = write_baseline(scan, tmp_path / "folder.json", tmp_path)
    assert scan(tmp_path, *METADATA, "--baseline", folder)[0] == 0


def test_a_baseline_cannot_excuse_what_was_not_looked_at(scan: Scan, tmp_path: Path) -> None:
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html>")
    report = tmp_path / "baseline.json"
    assert scan(page, *METADATA, "-f", "json", "-o", report)[0] == 3
    assert scan(page, *METADATA, "--baseline", report)[0] == 3


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{}", "{" * 100_000, "[" * 100_000, "\xff", '{"schema": "loraudit.inspect/1"}',
        '{"schema": "loraudit.report/1"}', '{"schema": "loraudit.report/1", "findings": 1}',
        '{"schema": "loraudit.report/1", "target": {"sha256": null}, "findings": ["x"]}',
        '{"schema": "loraudit.report/1", "target": {}, "findings": [{"severity": "bad", "fingerprint": ""}]}',
        '{"schema": "loraudit.reports/1", "reports": {"a": 1}}',
    ],
)  # fmt: skip
def test_what_is_no_baseline(scan: Scan, leaky: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text, encoding="latin-1")
    code, out, err = scan(leaky, *METADATA, "--baseline", tmp_path / "b.json")
    assert (code, out) == (2, "")
    assert "is no report of a scan in JSON" in err and len(err.splitlines()) == 2


def test_a_baseline_of_an_earlier_release_says_so(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    baseline = write_baseline(scan, tmp_path / "baseline.json", leaky)
    old = json.loads(baseline.read_text())
    for finding in old["findings"]:
        del finding["fingerprint"]
    baseline.write_text(json.dumps(old))
    code, _, err = scan(leaky, *METADATA, "--baseline", baseline)
    assert code == 2 and "earlier loraudit" in err


def test_what_is_allowed_does_not_count_and_says_why(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    allow = write_allow(tmp_path / "allow.toml", entry(leaky, "LA-NAME-001", TODAY))
    code, out, err = scan(leaky, *METADATA, "--allow", allow)
    assert (code, err) == (0, "")
    assert "ALLOWED  The training folders name the subject" in out
    assert f"Allowed until {TODAY}, does not count: Jane agreed." in out
    assert scan(leaky, *METADATA, "--allow", allow, "--fail-on", "medium")[0] == 1, "no other rule is"
    found = findings(scan, leaky, "--allow", allow)
    assert found["LA-NAME-001"]["allowed"] == {"reason": "Jane agreed.", "until": str(TODAY)}
    assert found["LA-NAME-002"]["allowed"] is None


def test_a_decision_is_about_one_file(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    allow = write_allow(tmp_path / "allow.toml", entry(leaky, "LA-NAME-001"))
    write(leaky, KOHYA | {"ss_seed": "1"})
    assert scan(leaky, *METADATA, "--allow", allow)[0] == 1


def test_a_decision_about_tensors_holds_whatever_the_header_says(
    scan: Scan, leaky: Path, tmp_path: Path
) -> None:
    digest = scrub(leaky, tmp_path / "copy.safetensors").tensor_sha256
    allow = write_allow(tmp_path / "a.toml", entry(leaky, "LA-NAME-001", key="tensors", digest=digest))
    assert scan(leaky, *METADATA, "--allow", allow)[0] == 0
    write(leaky, KOHYA | {"ss_seed": "1"})
    assert scan(leaky, *METADATA, "--allow", allow)[0] == 0
    assert scan(leaky, "--depth", "weights", "--allow", allow)[0] == 0
    data = bytearray(leaky.read_bytes())
    data[-1] ^= 1
    leaky.write_bytes(data)
    assert scan(leaky, *METADATA, "--allow", allow)[0] == 1


@pytest.mark.parametrize("quote", ["", '"'])
def test_what_expired_counts_again_and_is_told(scan: Scan, leaky: Path, tmp_path: Path, quote: str) -> None:
    day = TODAY - timedelta(days=1)
    allow = write_allow(tmp_path / "allow.toml", entry(leaky, "LA-NAME-001", f"{quote}{day}{quote}"))
    code, out, err = scan(leaky, *METADATA, "--allow", allow)
    assert code == 1
    assert "ALLOWED" not in out
    assert err.splitlines() == [f"{allow}, entry 1: LA-NAME-001 was allowed until {day}, not longer"]


def test_a_baseline_does_not_outlive_a_decision(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    """What was allowed when the baseline was written is not known because of it."""
    allow = write_allow(tmp_path / "allow.toml", entry(leaky, "LA-NAME-001", TODAY))
    baseline = write_baseline(scan, tmp_path / "baseline.json", leaky, "--allow", allow)
    assert scan(leaky, *METADATA, "--baseline", baseline)[0] == 1
    assert scan(leaky, *METADATA, "--baseline", baseline, "--allow", allow, "--fail-on", "low")[0] == 0


GOOD = {"sha256": f'"{"ab" * 32}"', "rule": '"LA-NAME-001"', "reason": '"It is I."', "expires": "2999-01-31"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reason": None}, "gives no reason"),
        ({"reason": '" "'}, "gives no reason"),
        ({"reason": "1"}, "gives no reason"),
        ({"rule": None}, "no rule is called"),
        ({"rule": '"LA-NAME-999"'}, "no rule is called 'LA-NAME-999'"),
        ({"rule": '"\\u001b[2J"'}, r"no rule is called '\\x1b[2J'"),
        ({"sha256": None}, "needs either sha256"),
        ({"sha256": '"ab"'}, "sha256 is not 64 hex digits"),
        ({"tensors": f'"{"ab" * 32}"'}, "needs either sha256"),
        ({"expires": '"soon"'}, "expires is not a day"),
        ({"expires": "1"}, "expires is not a day"),
        ({"expires": "2999-01-31T00:00:00Z"}, "expires is not a day"),
        ({"expire": "2999-01-31"}, "unknown key 'expire'"),
        ({"\"\\u001b[2J\"": "1"}, r"unknown key '\\x1b[2J'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_decision(
    scan: Scan, leaky: Path, tmp_path: Path, change: dict[str, str | None], told: str
) -> None:
    lines = [f"{key} = {value}" for key, value in (GOOD | change).items() if value is not None]
    good = [f"{key} = {value}" for key, value in GOOD.items()]
    allow = write_allow(tmp_path / "allow.toml", "\n".join(good), "\n".join(lines))
    code, out, err = scan(leaky, *METADATA, "--allow", allow)
    assert (code, out) == (2, "")
    assert f"entry 2: {told}" in err and len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "text", ["[allow]\n", "allow = 1", "x = 1", "[[allow]", "allow = [1]", "\xff", "[" * 9999]
)
def test_what_is_no_allow_file(scan: Scan, leaky: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "allow.toml").write_text(text, encoding="latin-1")
    code, out, err = scan(leaky, *METADATA, "--allow", tmp_path / "allow.toml")
    assert (code, out) == (2, "")
    assert "the allow file" in err and len(err.splitlines()) == 2


@pytest.mark.parametrize("option", ["--baseline", "--allow"])
def test_files_that_cannot_be_read(scan: Scan, leaky: Path, tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200_000_000)
    for name, told in (("gone", "No such file"), ("pipe", "not a regular file"), ("large", "is larger than")):
        code, out, err = scan(leaky, *METADATA, option, tmp_path / name)
        assert (code, out) == (2, "")
        assert told in err
    assert scan(leaky, *METADATA, option, tmp_path)[0] == 2


def test_an_empty_allow_file_allows_nothing(scan: Scan, leaky: Path, tmp_path: Path) -> None:
    assert scan(leaky, *METADATA, "--allow", write_allow(tmp_path / "allow.toml"))[0] == 1
