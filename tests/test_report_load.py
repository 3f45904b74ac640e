"""A report read back says the same in every format; a document that is no report is refused in one line."""

import copy
import dataclasses
import json
import math
import random
import sys
from pathlib import Path

import pytest

from loraudit.errors import LorauditError
from loraudit.findings.exhibits import Distribution, ModuleNorm
from loraudit.findings.exits import exit_code
from loraudit.findings.report import unscannable
from loraudit.report import FORMATS
from loraudit.report.load import load_reports
from tests.headers import KOHYA, write
from tests.test_report_formats import CLEAN, HOSTILE, REPORT, SEVERAL, hostile

FAILED = unscannable("0.1.0", dataclasses.replace(REPORT.target), "no such file", failed=True)


def again(*reports, reveal=False):
    return load_reports(FORMATS["json"](reports, reveal=reveal).encode())


@pytest.mark.parametrize("reports", [(REPORT,), (CLEAN,), SEVERAL, (FAILED, REPORT), ()])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_again(name, reports):
    hidden, shown = again(*reports), again(*reports, reveal=True)
    for reveal in (False, True):
        before = FORMATS[name](reports, reveal=reveal)
        assert FORMATS[name](shown, reveal=reveal) == before
    assert FORMATS[name](hidden) == FORMATS[name](reports)
    for report, one in zip(reports, hidden, strict=True):
        assert exit_code(one) == exit_code(report)
        assert one.verdict == report.verdict


def test_private_words_stay_hidden_unless_asked_for_twice():
    (revealed,) = again(REPORT, reveal=True)
    (hidden,) = again(REPORT)
    for name, render in FORMATS.items():
        assert "Jane Doe" not in render([revealed]), name
        assert "Jane Doe" in render([revealed], reveal=True), name
        assert "Jane Doe" not in render([hidden], reveal=True), name


def test_every_text_is_made_harmless():
    """`json_v1` already does so; here somebody else wrote the file."""

    def spoil(value):
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner) for inner in value]
        return HOSTILE if isinstance(value, str) else value

    document = json.loads(FORMATS["json"]([hostile()], reveal=True))
    kept = {"schema", "id", "severity", "confidence", "depth", "sha256"}

    def spoil_texts(value):
        if isinstance(value, dict):
            return {
                key: inner if key in kept and isinstance(inner, str) else spoil_texts(inner)
                for key, inner in value.items()
            }
        return [spoil_texts(inner) for inner in value] if isinstance(value, list) else spoil(value)

    document = spoil_texts(document)
    document["findings"][0]["id"] = "LA-X-001"
    document["settings"] |= {"depth": "attack"}
    document["target"] |= {"sha256": None}
    document["settings"]["encoder"] |= {"sha256": "0" * 64}
    (report,) = load_reports(json.dumps(document).encode())
    for name, render in FORMATS.items():
        out = render([report], reveal=True, width=200)
        assert not set(out) & set("\x1b\x9b\x07\r\u202e\u2066\u200b\ud800"), name
        assert "::set-output" not in out, name
    assert "\x1b" not in str(report)


DOCUMENT = json.loads(FORMATS["json"]([REPORT], reveal=True))


def put(*keys, value):
    def spoil(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (put("schema", value="loraudit.report/2"), "not of the schema"),
        (put("schema", value=["loraudit.report/1"]), "not of the schema"),
        (put("findings", value=None), "findings is not a list"),
        (put("findings", value={}), "findings is not a list"),
        (put("findings", 0, "severity", value="fine"), "findings[0].severity is not one of none, "),
        (put("findings", 0, "severity", value=[]), "findings[0].severity is not one of"),
        (put("findings", 0, "id", value="<script>"), "is not the id of a rule"),
        (put("findings", 0, "quotes", value="abc"), "findings[0].quotes is not a list"),
        (put("findings", 0, "numbers", "value", value=[]), "findings[0].numbers.value is not a number"),
        (put("findings", 0, "numbers", "a\x1b[2J", value=[]), r"numbers.a\x1b[2J is not a number"),
        (put("findings", 0, "known", value="yes"), "is not true, false or null"),
        (put("target", value=[]), "target is not an object"),
        (put("target", "sha256", value="ab"), "is not a SHA-256"),
        (put("target", "rank", value=[1]), "target.rank is not two numbers"),
        (put("target", "rank", value=[1, -1]), "target.rank[1] is not a whole number"),
        (put("target", "size_bytes", value=True), "is not a whole number"),
        (put("target", "size_bytes", value=10**400), "is not a whole number"),
        (put("scores", 0, "value", value=10**400), "scores[0].value is not a number"),
        (put("scores", 0, "n", value=1.5), "is not a whole number"),
        (put("scores", 0, "p_value", value=1.5), "scores[0].p_value is not a number in its range"),
        (put("settings", "encoder", "sha256", value="ab"), "settings.encoder.sha256 is not a SHA-256"),
        (put("settings", "encoder", "sha256", value=None), "settings.encoder.sha256 is not there"),
        (put("settings", "depth", value="deep"), "settings.depth is not one of"),
        (put("distributions", 0, "here", value=2), "is not a number in its range"),
        (put("update", 0, "frobenius", value=-1), "is not a number in its range"),
        (lambda document: document.pop("incomplete"), "incomplete is not there"),
        (lambda document: document["findings"][0].pop("title"), "findings[0].title is not there"),
    ],
)
def test_another_document_is_refused(spoil, words):
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    with pytest.raises(LorauditError) as raised:
        load_reports(json.dumps(document).encode())
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xfe", b"{", b"[]", b"null", b"NaN", b'"x"', b"[" * 10**5, b"1" * 10**5,
        b'{"schema": "loraudit.reports/1"}',
        json.dumps(DOCUMENT).replace("0.758333", "1e999").encode(),
        json.dumps(DOCUMENT).replace("0.758333", "NaN").encode(),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(data):
    with pytest.raises(LorauditError):
        load_reports(data)


def test_a_spoiled_document_never_ends_in_another_error():
    rng = random.Random(0)
    data = json.dumps(DOCUMENT)
    values = ["null", "[]", "{}", "-1", "1e999", '"\\ud800"', "true", '"\\u001b"', "99999999999999999999"]
    tokens = [at for at, char in enumerate(data) if char == ":"]
    read = refused = 0
    for _ in range(300):
        at = rng.choice(tokens)
        end = min(found for found in (data.find(stop, at) for stop in ",}]") if found > 0)
        spoiled = data[: at + 1] + rng.choice(values) + data[end:]
        try:
            reports = load_reports(spoiled.encode())
        except LorauditError:
            refused += 1
        else:
            read += 1
            for name in ("text", "json", "sarif", "markdown"):
                FORMATS[name](reports, reveal=True)
    assert read > 10 and refused > 100


def test_a_report_of_an_earlier_version_is_read():
    document = copy.deepcopy(DOCUMENT)
    for name in ("failed", "update", "distributions"):
        document.pop(name)
    document["target"].pop("path")
    for finding in document["findings"]:
        for name in ("summary", "quotes", "places", "fingerprint", "known", "allowed"):
            finding.pop(name)
    (report,) = load_reports(json.dumps(document).encode())
    assert report.verdict.level is REPORT.verdict.level


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "file",
    [*sorted(ROOT.glob("tests/golden/*.json")), ROOT / "docs" / "example.json"],
    ids=lambda file: file.name,
)
def test_reports_that_are_kept_round_trip(file: Path):
    text = file.read_text(encoding="utf-8")
    assert again(*load_reports(text.encode())) == load_reports(text.encode())
    assert FORMATS["json"](load_reports(text.encode())) == text


@pytest.mark.parametrize("file", sorted(ROOT.glob("tests/earlier/*.json")), ids=lambda file: file.name)
def test_reports_of_earlier_layouts_are_read_whole(file: Path):
    """Every member that was written then is written again, with the same value."""
    earlier = json.loads(file.read_text(encoding="utf-8"))
    (report,) = load_reports(file.read_bytes())
    later = json.loads(FORMATS["json"]([report]))
    lacked = {"path"} - set(earlier["target"]) | DOCUMENT.keys() - earlier.keys()
    lacked |= DOCUMENT["findings"][0].keys() - earlier["findings"][0].keys()
    assert lacked, "it is of an earlier layout"
    for document, members in ((earlier, later), (earlier["target"], later["target"])):
        for name in document.keys() - {"findings", "target", "verdict"}:
            assert members[name] == document[name], name
    assert later["verdict"]["level"] == earlier["verdict"]["level"], (
        "its words are those of today's summaries"
    )
    for before, after in zip(earlier["findings"], later["findings"], strict=True):
        for name, value in before.items():
            assert after[name] == value, name


def test_every_layout_of_docs_is_tried():
    documents = [json.loads(file.read_bytes()) for file in sorted(ROOT.glob("docs/*.json"))]
    assert [isinstance(one, dict) and "schema" in one for one in documents].count(True) == 1
    assert len(list(ROOT.glob("tests/earlier/*.json"))) >= 3


def test_what_is_not_finite_is_read_back():
    """The writer puts null for it, so the reader takes null."""
    odd = dataclasses.replace(
        REPORT,
        update=(ModuleNorm("unet.x", math.inf), ModuleNorm("unet.y", 1.0)),
        distributions=(Distribution("agreement", math.nan, (0.5, math.nan), (math.nan,)),),
    )
    text = FORMATS["json"]([odd], reveal=True)
    (report,) = load_reports(text.encode())
    assert FORMATS["json"]([report], reveal=True) == text
    for name in ("text", "markdown", "html", "sarif"):
        assert FORMATS[name]([report]) == FORMATS[name]([odd])


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `loraudit` in this process: exit code, stdout, stderr."""
    from loraudit.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


def test_the_command_prints_what_the_scan_printed(run, tmp_path: Path):
    files = [write(tmp_path / "a.safetensors", KOHYA), write(tmp_path / "b.safetensors", {})]
    (tmp_path / "c.safetensors").write_bytes(b"<html>")
    targets = {
        "found": (files[0],),
        "clean": (files[1],),
        "nothing": (tmp_path / "c.safetensors",),
        "folder": (tmp_path,),
        "gone": (files[1], tmp_path / "gone.safetensors"),
    }
    for kind, given in targets.items():
        result = tmp_path / f"{kind}.json"
        outputs = [f"{name}={tmp_path / kind}.{name}" for name in FORMATS if name not in {"text", "html"}]
        options = [word for name in (f"json={result}", *outputs[1:]) for word in ("-o", name)]
        code, out, _ = run("scan", *given, "--depth", "metadata", *options)
        assert run("report", result) == (code, out, "")
        for output in outputs[1:]:
            name, _, path = output.partition("=")
            assert run("report", result, "-f", name)[:2] == (code, Path(path).read_text(encoding="utf-8"))
        assert run("report", result, "-f", "json")[1] == result.read_text()
    assert run("report", tmp_path / "found.json", "--fail-on", "never")[0] == 0
    assert run("report", tmp_path / "found.json", "--fail-on", "critical")[0] == 0


def test_the_command_refuses_what_is_no_report(run, tmp_path: Path):
    (tmp_path / "x.json").write_text("{}")
    before = FORMATS["json"]([REPORT])
    (tmp_path / "r.json").write_text(before)
    for arguments, words in [
        ((tmp_path / "gone.json",), "cannot read the report"),
        ((tmp_path,), "not a regular file"),
        ((tmp_path / "x.json",), "not of the schema"),
        ((tmp_path / "r.json", "-o", tmp_path / "r.json"), "no place for a report"),
        ((tmp_path / "r.json", "-f", "yaml"), "yaml"),
    ]:
        code, out, err = run("report", *arguments)
        assert (code, out) == (2, "")
        assert words in err and "Traceback" not in err
    assert (tmp_path / "r.json").read_text() == before
