"""One literal report in every format, compared whole.

After a wanted change of words or layout, `python tests/test_report_formats.py` writes the golden files and
the schema anew; read the difference before you keep it.
"""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import loraudit.report
from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations, Settings, StatedBase
from loraudit.findings.exhibits import Distribution, ModuleNorm
from loraudit.findings.finding import Allowed, Confidence, Finding, Score, Severity
from loraudit.findings.report import Gap, Modules, Report, Target, unscannable
from loraudit.report import FORMATS
from loraudit.report.json_v1 import schema
from loraudit.report.load import load_reports
from loraudit.text import clean

GOLDEN = Path(__file__).parent / "golden"

REPORT = Report(
    version="0.1.0",
    target=Target(
        name="private-person.safetensors",
        sha256="3f2a9c01" * 8,
        size_bytes=458_112,
        family="sd",
        base="tiny",
        dialect="diffusers",
        rank=(4, 8),
        modules=Modules(read=56, unread=2),
    ),
    findings=(
        Finding(
            id="LA-IDENTITY-001",
            severity=Severity.HIGH,
            confidence=Confidence.MEDIUM,
            title="One consistent person comes back from the weights",
            detail=(
                "Attack paper: 91 of 120 pairs of reconstructions from different seeds show the same face. "
                "With the same embedding and seeds, the base model alone: 1 of 120."
            ),
            remedy="Share this file only where you would share the photos it was trained on.",
            summary="An adversary with this file and the public base model gets back one consistent person.",
            numbers={
                "attack": "paper",
                "attacks": 2,
                "value": 91 / 120,
                "k": 91,
                "n": 120,
                "low": 0.4187651,
                "high": 0.9303218,
                "base_value": 1 / 120,
                "base_k": 1,
                "base_n": 120,
                "null_p95": 0.3083333333,
                "p_value": 0.0001,
                "threshold": 0.52,
                "far": 0.001,
                "policy": 1,
            },
        ),
        Finding(
            id="LA-IDENTITY-002",
            severity=Severity.LOW,
            confidence=Confidence.LOW,
            title="A reconstruction resembles the person in the reference photos",
            detail="Attack prompts:trigger: 1 of 16 reconstructions pass as the person in the photos.",
            remedy="Do not share this file without that person's consent.",
            quotes=("photo of sks Jane Doe",),
            known=False,
            allowed=Allowed("The person in the photos shares the file.", "2027-01-31"),
        ),
        Finding(
            id="LA-DATASET-001",
            severity=Severity.LOW,
            confidence=Confidence.HIGH,
            title="The file says how many pictures it was trained on",
            detail="Found in ss_dataset_dirs. Few pictures seen many times are remembered better.",
            remedy="Write a copy without it: loraudit scrub FILE -o OUT.",
            numbers={"images": 25},
            places=("ss_dataset_dirs",),
            known=True,
        ),
    ),
    scores=(
        Score("faces", "paper", "face detector", 1.0, 16, 0.806, 1.0),
        Score("faces.base", "paper", "face detector", 0.9375, 16, 0.717, 0.989),
        Score(
            "consistency", "paper", "each other", 91 / 120, 120, 0.4187651, 0.9303218, 0.3083333333, 0.0001
        ),
        Score("consistency.base", "paper", "each other", 1 / 120, 120, 0.0007, 0.334),
        Score("consistency.scrambled", "paper", "each other", 2 / 120, 120, 0.001, 0.34),
        Score("clip-i", "paper", "reference", 0.8123, 16, 0.79, 0.834, 0.6412),
        Score("clip-i.base", "paper", "reference", 0.6021, 16, 0.58, 0.624),
        Score("consistency", "prompts:trigger", "each other", None, 0, 0.0, 1.0, None, 1.0),
        Score("consistency.base", "prompts:trigger", "each other", 0.0, 6, 0.0, 0.658),
    ),
    settings=Settings(
        base="tiny",
        base_fingerprint="5e1d" * 16,
        stated_base=StatedBase(False, "(hidden)", ("janes_mix.safetensors",)),
        encoder=EncoderUsed("paper-tiny", "ab" * 32),
        attacks=("paper", "prompts:trigger"),
        skipped=("prompts:no-trigger",),
        seeds=(*range(15), 99),
        budget="at most 16 samples, 20 steps, guidance 3",
        evaluations=Evaluations(3840, 7680),
        calibration=CalibrationUsed("calibration-tiny", 240),
        device="cpu",
        dtype="float32",
    ),
    incomplete=(Gap("attack prompts:class", "out of memory at 16 samples; try --samples 8"),),
    update=(
        ModuleNorm("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q", 3.25),
        ModuleNorm("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 1.5),
        ModuleNorm("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v", 2.125),
        ModuleNorm("text_encoder.encoder.layers.0.self_attn.q_proj", 0.0625),
    ),
    distributions=(
        Distribution(
            "agreement", 91 / 120, tuple(i % 9 / 80 for i in range(40)), tuple(1 - i / 25 for i in range(16))
        ),
    ),
)
CLEAN = dataclasses.replace(
    REPORT,
    findings=(
        Finding(
            "LA-IDENTITY-001", Severity.NONE, Confidence.LOW, "No consistent person came back", "Seen.", "Do."
        ),
    ),
    scores=(),
    incomplete=(),
)
SEVERAL = (REPORT, CLEAN, unscannable("0.1.0", Target("notes.txt"), "this is not a safetensors file"))

RENDERED = {
    "report-80.txt": lambda: FORMATS["text"]([REPORT]),
    "report-120.txt": lambda: FORMATS["text"]([REPORT], width=120, reveal=True),
    "report-color.txt": lambda: FORMATS["text"]([CLEAN], color=True),
    "reports.txt": lambda: FORMATS["text"](SEVERAL),
    "report.json": lambda: FORMATS["json"]([REPORT]),
    "reports.json": lambda: FORMATS["json"](SEVERAL),
    "report.sarif": lambda: FORMATS["sarif"]([REPORT]),
    "report.md": lambda: FORMATS["markdown"]([REPORT]),
    "reports.md": lambda: FORMATS["markdown"](SEVERAL),
    "reports.junit.xml": lambda: FORMATS["junit"](SEVERAL),
    "reports.codequality": lambda: FORMATS["gitlab"](SEVERAL),
}

HOSTILE = (
    "\x1b]0;pwned\x07\x1b[2J[red]PASS[/red] [/bold] :warning: \u202eevil\u2066 \x9b31m\r\n"
    "::set-output name=x::1\u200b\ud800"
)
ONE_OF_EACH = (
    ("faces", "face detector"),
    ("consistency", "each other"),
    ("accepted", "reference"),
    ("cosine", "reference"),
    ("clip-i", "reference"),
    ("clip-i", "each other"),
)
SHOWN = {
    "markdown": r"\[red\]PASS\[/red\] \[/bold\] :<!-- -->warning:",
    "sarif": r"\\[red\\]PASS\\[/red\\] \\[/bold\\] :warning:",
}
"""How a format puts what it must not obey, where that is not as it is."""


def hostile() -> Report:
    """A report in which every free text is an attack on whoever prints it."""
    return Report(
        HOSTILE,
        Target(HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE, (1, 1), Modules(1, 1), HOSTILE),
        (
            Finding(
                HOSTILE,
                Severity.LOW,
                Confidence.LOW,
                *[HOSTILE] * 3,
                numbers={HOSTILE: HOSTILE},
                quotes=(HOSTILE,),
                places=(HOSTILE,),
                known=True,
                allowed=Allowed(HOSTILE, HOSTILE),
            ),
        ),
        (Score(HOSTILE, HOSTILE, HOSTILE, 0.5, 1),),
        Settings(
            HOSTILE,
            EncoderUsed(HOSTILE, HOSTILE),
            (HOSTILE,),
            (HOSTILE,),
            (1,),
            HOSTILE,
            Evaluations(1, 2),
            CalibrationUsed(HOSTILE, 1, HOSTILE),
            HOSTILE,
            HOSTILE,
            stated_base=StatedBase(False, HOSTILE, (HOSTILE,)),
        ),
        (Gap(HOSTILE, HOSTILE),),
        (ModuleNorm(HOSTILE, 1.0),),
        (Distribution(HOSTILE, 0.5, (0.5,)),),
    )


@pytest.mark.parametrize("name", RENDERED)
def test_golden(name):
    assert RENDERED[name]() == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_text_fits_its_width_and_ends_in_one_newline(width):
    text = FORMATS["text"](SEVERAL, width=width)
    assert max(len(line) for line in text.splitlines()) == width
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(
    ("width", "attack", "columns"),
    [
        (80, "prompts:no-trigger", ["faces", "consistency", "accepted", "cosine", "clip-i"]),
        (80, "prompts:of-a-long-name-indeed", ["faces", "consistency", "accepted", "cosine"]),
        (60, "prompts:no-trigger", ["faces", "consistency", "accepted"]),
    ],
)
def test_a_narrow_report_drops_columns_and_breaks_no_name(width, attack, columns):
    kinds = [*ONE_OF_EACH, ("clip-t", "class prompt")]
    scores = tuple(
        Score(name + end, attack, against, 0.5, 16) for name, against in kinds for end in ("", ".base")
    )
    text = FORMATS["text"]([dataclasses.replace(REPORT, scores=scores)], width=width)
    assert re.search(rf"^Scores \(control\) +{' +'.join(columns)}$", text, re.MULTILINE)
    assert re.search(rf"^{attack}( +0\.50 \(0\.50\)){{{len(columns)}}}$", text, re.MULTILINE)


def test_a_long_name_is_cut_in_the_frame_and_whole_below_it():
    name = "x" * 90 + ".safetensors"
    text = FORMATS["text"]([Report("0.1.0", Target(name))], width=80)
    frame, *below = text.splitlines()
    assert re.fullmatch(r"┏━  VERDICT: NOT SCANNED  x+…━┓", frame)
    assert name in "".join(line.removeprefix("File").strip() for line in below)


def test_a_report_is_short():
    """It has room on a screen: a person, with photos, found by the second attack."""
    report = load_reports((GOLDEN.parent.parent / "docs" / "example.json").read_bytes())[0]
    assert [finding.severity.value for finding in report.findings] == ["critical", "high"]
    assert FORMATS["text"]([report]).count("\n") <= 48
    assert FORMATS["text"]([report], width=60).count("\n") <= 66


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_text_is_plain_unless_colour_is_asked_for(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    assert "\x1b" not in FORMATS["text"]([REPORT])
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" in FORMATS["text"]([REPORT], color=True)


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_text_is_inert(name, reveal):
    out = FORMATS[name]([hostile(), hostile()], width=200, reveal=reveal)
    assert not set(out) & set("\x1b\x9b\x07\r\u202e\u2066\u200b\ud800")
    assert "::set-output" not in out
    assert SHOWN.get(name, "[red]PASS[/red] [/bold] :warning:") in out  # shown, not obeyed
    out.encode("utf-8")


def test_hostile_text_stays_inert_once_json_is_parsed():
    document = json.loads(FORMATS["json"]([hostile()], reveal=True))
    assert "\\x1b[2J" in document["target"]["name"]
    assert "\x1b" not in document["target"]["name"]


@pytest.mark.parametrize(
    "text", ["Zoë Müller", "李小龍.safetensors", "photo of sks person, [x](y)", "a\\x1bb"]
)
def test_plain_leaves_plain_text_alone(text):
    assert clean(text, None) == text
    assert clean(clean("\x1b\u202e::", None), None) == clean("\x1b\u202e::", None)
    assert clean("a" * 50, 10) == "a" * 9 + "…"


@pytest.mark.parametrize("name", FORMATS)
def test_words_of_the_file_are_hidden_unless_revealed(name):
    assert "Jane Doe" not in FORMATS[name]([REPORT], width=200)
    assert "1 text of the file hidden" in FORMATS[name]([REPORT], width=200)
    assert "Jane Doe" in FORMATS[name]([REPORT], width=200, reveal=True)


if __name__ == "__main__":
    for golden, rendered in RENDERED.items():
        (GOLDEN / golden).write_text(rendered(), encoding="utf-8")
    shipped = Path(loraudit.report.__file__).with_name("report_v1.schema.json")
    shipped.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
