"""When a scan was made and how long it took: told at the end of a report, and apart from all else in it."""

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from loraudit.audit.request import Request
from loraudit.audit.scan import scan
from loraudit.errors import LorauditError
from loraudit.findings.report import Made
from loraudit.report import FORMATS, words
from loraudit.report.json_v1 import schema
from loraudit.report.load import load_reports
from tests.headers import KOHYA, write
from tests.test_report_formats import REPORT, SEVERAL

MADE = Made("2026-11-30T10:00:00Z", 12.3)
TIMED = dataclasses.replace(REPORT, made=MADE)
METADATA = Request(depth="metadata")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (12.3, "12 s"), (59.6, "1 min 0 s"),
        (200.0, "3 min 20 s"), (3599.0, "59 min 59 s"), (7500.0, "2 h 5 min"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float, told: str) -> None:
    report = dataclasses.replace(REPORT, made=Made(MADE.date, seconds))
    assert words.made(report) == f"Scanned 2026-11-30 10:00 UTC in {told}"


def test_what_is_not_known_is_not_told() -> None:
    assert words.made(REPORT) == ""
    assert words.made(dataclasses.replace(REPORT, made=Made(MADE.date))) == "Scanned 2026-11-30 10:00 UTC"
    for name, render in FORMATS.items():
        assert "Scanned 20" not in render([REPORT]), name
    assert "made" not in json.loads(FORMATS["json"]([REPORT]))


@pytest.mark.parametrize("name", ["text", "markdown", "html"])
def test_it_is_one_line_more_at_the_end(name: str) -> None:
    without, told = FORMATS[name]([REPORT]).splitlines(), FORMATS[name]([TIMED]).splitlines()
    new = [line for line in told if line not in without]
    assert len(new) == 1 and "Scanned 2026-11-30 10:00 UTC in 12 s" in new[0]
    assert [line for line in told if line not in new and line] == [line for line in without if line]
    visible = [line for line in told if line.strip() and not line.strip().startswith("</")]
    assert visible[-1] == new[0]


def test_json_holds_it_and_gives_it_back() -> None:
    text = FORMATS["json"]([TIMED], reveal=True)
    document = json.loads(text)
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert document.pop("made") == {"date": "2026-11-30T10:00:00Z", "seconds": 12.3}
    assert document == json.loads(FORMATS["json"]([REPORT], reveal=True)), "all else is equal"
    (report,) = load_reports(text.encode())
    assert report.made == MADE
    made = [one.made for one in load_reports(FORMATS["json"]([TIMED, *SEVERAL, TIMED], reveal=True).encode())]
    assert made == [MADE, None, None, None, MADE]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "made is not an object"),
        ({"seconds": 1}, "made.date is not there"),
        ({"date": "2026-11-30T10:00:00Z"}, "made.seconds is not there"),
        ({"date": "30 November", "seconds": 1}, "made.date is not a time such as"),
        ({"date": "2026-11-30T10:00:00Z\n", "seconds": 1}, "made.date is not a time such as"),
        ({"date": "2026-11-30T10:00:00Z", "seconds": -1}, "made.seconds is not a number in its range"),
        ({"date": "2026-11-30T10:00:00Z", "seconds": 10**400}, "made.seconds is not a number"),
    ],
)
def test_another_time_is_refused(made: object, words: str) -> None:
    document = json.loads(FORMATS["json"]([REPORT])) | {"made": made}
    with pytest.raises(LorauditError) as raised:
        load_reports(json.dumps(document).encode())
    assert words in str(raised.value)


def test_it_is_no_part_of_what_is_said() -> None:
    assert TIMED == REPORT
    assert dataclasses.replace(TIMED, version="other") != TIMED
    told, bare = (json.loads(FORMATS["sarif"]([report])) for report in (TIMED, REPORT))
    (invocation,) = told["runs"][0]["invocations"]
    assert invocation.pop("startTimeUtc") == "2026-11-30T10:00:00Z"
    assert invocation.pop("endTimeUtc") == "2026-11-30T10:00:12Z"
    assert told == bare
    assert "startTimeUtc" not in FORMATS["sarif"]([TIMED, REPORT]), "the time of some is not that of all"


def test_a_scan_tells_when_it_was_made(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    for name in "ab":
        write(tmp_path / f"{name}.safetensors", KOHYA)
    (tmp_path / "c.safetensors").write_text("<html>")
    before, started = datetime.now(UTC), time.perf_counter()
    made = [one.report.made for one in scan([str(tmp_path)], METADATA)]
    took = time.perf_counter() - started
    assert len(made) == 3
    for one in made:
        assert one is not None and one.seconds is not None
        assert 0 <= one.seconds <= took + 0.1
        at = datetime.strptime(one.date, "%Y-%m-%dT%H:%M:%S%z")
        assert before - timedelta(seconds=1.2) <= at <= datetime.now(UTC)


def test_with_a_date_that_is_given_equal_input_is_equal_bytes(tmp_path, monkeypatch) -> None:
    file = str(write(tmp_path / "a.safetensors", KOHYA))

    def written() -> str:
        return FORMATS["json"]([one.report for one in scan([file], METADATA)])

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    first = written()
    assert json.loads(first)["made"] == {"date": "2001-09-09T01:46:40Z", "seconds": None}
    time.sleep(0.01)
    assert written() == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000001")
    assert written() != first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert json.loads(written())["made"]["seconds"] is not None


@pytest.mark.parametrize("text", ["tomorrow", "-1", "1.5", "²", "9" * 30, "253402300800"])
def test_a_date_that_is_none_is_refused_before_the_scan(text: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(LorauditError, match="SOURCE_DATE_EPOCH"):
        scan([str(write(tmp_path / "a.safetensors", KOHYA))], METADATA)
