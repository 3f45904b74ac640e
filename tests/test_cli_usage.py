"""Using the command line by hand: help, mistakes, streams, colours, progress, the example."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loraudit.cli import main
from loraudit.cli.app import Commands
from loraudit.cli.progress import progress
from loraudit.cli.targets import find_targets
from tests.headers import KOHYA, write

ROOT = Path(__file__).parent.parent
COMMANDS = [(), *((name,) for names in Commands.groups.values() for name in names)]
ALL = [*COMMANDS, ("bench", "attacks"), ("bench", "verdict")]
METADATA = ("--depth", "metadata", "--fail-on", "never")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write(tmp_path / "jane_doe.safetensors", KOHYA)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_fits_and_is_whole(command, columns, run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    # An example may be longer than the text: it has to be copied whole.
    words, _, examples = out.partition("Examples:")
    assert max(map(len, words.splitlines())) <= int(columns)
    assert "..." not in words.replace("]...", "").replace("ARGS...", "").replace("}...", "").replace(
        "s... <", ""
    ).replace("target... <", "")
    assert re.search(rf"^    (\S+ )*.*loraudit {' '.join(command)}", examples, re.MULTILINE)
    assert max(map(len, examples.splitlines())) <= 80


def test_help_lists_every_command_in_one_line(run) -> None:
    out = run("--help")[1]
    listed = re.findall(r"^  ([a-z-]+) +(\S.*[A-Za-z)])\.$", out.partition("\nAudit:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == [name for names in Commands.groups.values() for name in names]
    for heading in Commands.groups:
        assert f"\n{heading}:\n" in out


def test_help_names_things_without_the_name_of_the_option(run) -> None:
    """With the option covered, a help text says what it is: it starts with a capital, and not with "Of"."""
    texts = []
    for command in ALL:
        out = run(*command, "--help")[1].partition("Examples:")[0]
        texts += re.findall(r"^  -.*?(?: {2,}|\n {10,})(\S.*)$", out, re.MULTILINE)
    assert len(texts) > 80
    for text in texts:
        assert text[0].isupper() and not text.startswith(("Of ", "What ", "Instead ", "On ", "That ")), text


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag, run) -> None:
    assert re.fullmatch(r"loraudit \d+\.\d+\.\d+\S*\n", run(flag)[1])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("scna",), "Did you mean scan?"),
        (("trainencoder",), "Did you mean train-encoder?"),
        (("bench", "verdcit"), "Did you mean verdict?"),
        (("scan", "x", "--dept", "metadata"), "Did you mean --depth?"),
        (("--verison",), "Did you mean --version?"),
        (("scan", "x", "--depth", "metdata"), "Did you mean metadata?"),
        (("scan", "x", "--attack", "promts"), "Did you mean prompts?"),
        (("cache", "cler"), "Did you mean clear?"),
    ],
)
def test_did_you_mean(given, meant, run) -> None:
    code, out, err = run(*given)
    assert (code, out) == (2, "")
    assert meant in err


@pytest.mark.parametrize(
    "given", [("qqqqqq",), ("scan", "--qqqqqq"), ("scan", "x", "--depth", "qqqqqq")], ids=" ".join
)
def test_nothing_like_it(given, run) -> None:
    code, _, err = run(*given)
    assert code == 2 and "qqqqqq" in err and "Did you mean" not in err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("scan", "LORA", "--base", "sdxl"), "no base is called 'sdxl'"),
        (("scan", "LORA", "--depth", "metadata", "--base", "sdxl"), "no base is called 'sdxl'"),
        (("scan", "LORA", "--encoder", "nope"), "there is no encoder nope"),
        (("calibrate", "--controls", "x", "-o", "y", "--base", "sdxl"), "no base is called 'sdxl'"),
        (("calibrate", "--controls", "x", "-o", "y", "--encoder", "nope"), "there is no encoder nope"),
        (("bench", "attacks", "--zoo", "x", "-o", "y", "--encoder", "nope"), "there is no encoder nope"),
        (("bench", "attacks", "--zoo", "x", "-o", "y", "--paper", "nope"), "there is no encoder nope"),
        (
            ("bench", "verdict", "--leaking", "x", "--harmless", "x", "-o", "y", "--encoder", "nope"),
            "there is no encoder nope",
        ),
        (
            ("bench", "verdict", "--leaking", "x", "--harmless", "x", "-o", "y", "--calibration", "nope"),
            "there is no calibration nope",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused_before_anything_is_loaded(given, words, lora, tmp_path) -> None:
    arguments = [str(lora) if word == "LORA" else word for word in given]
    code = (
        "import sys, atexit; heavy = {'torch', 'numpy', 'diffusers'}\n"
        f"sys.argv = {['loraudit', *arguments]!r}\n"
        "atexit.register(lambda: print('LOADED', *sorted(heavy & set(sys.modules))))\n"
        "from loraudit.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "LOADED\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [lora.name]


def test_known_names_and_folders_are_not_refused(tmp_path) -> None:
    from loraudit.cards import base_names
    from loraudit.cli.choices import check_base, check_encoder

    for name in (*base_names(), str(tmp_path)):
        check_base(name)
    for name in ("probe-tiny", "paper-tiny", str(tmp_path)):
        check_encoder(name)


def test_no_target(run) -> None:
    code, out, err = run("scan")
    assert (code, out) == (2, "")
    assert "no LoRA to scan" in err and "--example" in err


def test_old_spelling_of_output_still_works(run, tmp_path) -> None:
    """`--out` is hidden, and means `--output`."""
    for option in ("--out", "--output", "-o"):
        code, _, err = run("calibrate", "--controls", tmp_path, option, tmp_path / "out", "--base", "sdxl")
        assert code == 2 and "no base is called" in err
    assert "No such option: --output" in run("calibrate", "--controls", "x", "--outp", "y")[2].replace(
        "--outp", "--output"
    )
    assert "--out " not in run("calibrate", "--help")[1]


def test_the_example_is_there_without_a_target(run, lora, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # as of an installed wheel, far from the repository
    code, out, err = run("scan", "--example", *METADATA, "-f", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["target"]["name"] == "example.safetensors"
    code, out, err = run("scan", "--example", lora)
    assert (code, out) == (2, "") and "--example" in err


def test_the_example_brings_photos_to_an_attack_alone(run, tmp_path) -> None:
    (target,), photos = find_targets((), None, example=True)
    assert photos is not None and Path(target).is_file() and any(photos.iterdir())
    assert run("scan", "--example", *METADATA)[0] == 0
    code, out, err = run("scan", "--example", "--reference", tmp_path / "gone")
    assert (code, out) == (2, "") and "gone" in err, "photos of one's own take their place"


def test_quiet_says_nothing_but_errors(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "loras"
    folder.mkdir()
    for name in "abc":
        write(folder / f"{name}.safetensors", KOHYA)
    (folder / "old.ckpt").write_bytes(b"\x80\x02")
    (tmp_path / "pyproject.toml").write_text('[tool.loraudit]\nfail-on = "never"\n')
    loud = run("scan", folder, "--depth", "metadata")
    for said in ("pyproject.toml sets", "pickle", "reading: 3 of 3"):
        assert said in loud[2]
    hushed = run("scan", folder, "--depth", "metadata", "--no-progress")
    assert "pyproject.toml sets" in hushed[2] and "pickle" in hushed[2] and "reading" not in hushed[2]
    for quiet in ("--quiet", "-q"):
        assert run("scan", folder, "--depth", "metadata", quiet) == (0, loud[1], "")
    monkeypatch.setenv("LORAUDIT_QUIET", "1")
    assert run("scan", folder, "--depth", "metadata") == (0, loud[1], "")
    monkeypatch.delenv("LORAUDIT_QUIET")
    (tmp_path / "pyproject.toml").write_text('[tool.loraudit]\nfail-on = "never"\nquiet = true\n')
    assert run("scan", folder, "--depth", "metadata") == (0, loud[1], "")
    code, _, err = run("scan", "gone", "--depth", "metadata", "--quiet")
    assert code == 2 and err.startswith("loraudit: error: ")
    (tmp_path / "pyproject.toml").unlink()
    assert "reading" in run("scan", folder, *METADATA)[2], "quiet is over with its command"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_colours_in_a_pipe(variables, coloured, run, lora, tmp_path, monkeypatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _, out, _ = run("scan", lora, *METADATA, "-o", f"text={tmp_path / 'file'}")
    assert ("\x1b[" in out) == coloured
    assert "\x1b" not in (tmp_path / "file").read_text(), "a file has no colours"
    assert "jane doe" not in out, "and a pipe with colours is still no terminal: words stay hidden"
    assert "\x1b" not in run("scan", lora, *METADATA, "-f", "json")[1]


def test_a_report_on_stdin(run, lora, tmp_path, monkeypatch) -> None:
    code, out, _ = run("scan", lora, "--depth", "metadata", "-f", "json")
    assert code == 1
    saved = tmp_path / "report.json"
    saved.write_text(out)

    def piped(data: bytes, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return run("report", "-", *options)

    assert piped(saved.read_bytes()) == run("report", saved)
    assert piped(saved.read_bytes(), "-f", "markdown") == run("report", saved, "-f", "markdown")
    code, out, err = piped(b"nothing")
    assert (code, out) == (2, "") and err.startswith("loraudit: error: ")
    monkeypatch.setattr("loraudit.report.load.MOST_BYTES", 10)
    code, out, err = piped(saved.read_bytes())
    assert (code, out) == (2, "") and "standard input is larger" in err


def lines(capsys, steps: list[tuple]) -> list[str]:
    with progress("working") as on_step:
        for done, total, *stage in steps:
            on_step(done, total, *(stage or [""]))
    return capsys.readouterr().err.splitlines()


def test_progress_off_a_terminal(capsys) -> None:
    told = lines(capsys, [(done, 1000) for done in range(1001)])
    assert len(told) == 11
    assert (told[0], told[-1]) == ("working: 0 of 1000", "working: 1000 of 1000")
    assert lines(capsys, [(0, 0), (0, 0), (0, 0)]) == ["working"]
    stages = [
        (0, 0, "searching"),
        (0, 0, "searching"),
        (0, 2, "drawing"),
        (1, 2, "drawing"),
        (2, 2, "drawing"),
    ]
    assert lines(capsys, stages) == [
        "searching", "drawing: 0 of 2", "drawing: 1 of 2", "drawing: 2 of 2",
    ]  # fmt: skip
    # An attack that stops early takes its pictures out of the total; a stage that goes on is not begun again.
    early = [(0, 20, "a"), (4, 20, "a"), (4, 14, "a"), (4, 14, "b"), (14, 14, "b")]
    assert lines(capsys, early) == ["a: 0 of 20", "a: 4 of 20", "b: 14 of 14"]
    # Another job, resumed where more is done than the one before had.
    assert lines(capsys, [(2, 2, "a"), (50, 100, "b")]) == ["a: 2 of 2", "b: 50 of 100"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(monkeypatch) -> None:
    """A stage of unknown length has its elapsed time and no count; a counted one says how much is left."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    clock = iter(range(0, 100_000, 1))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("reconstructing") as on_step:
        on_step(0, 0, "attack search: looking for what to draw")
        searching = frame(terminal)
        for done in range(0, 60, 10):
            on_step(done, 120, "attack search")
        counted = frame(terminal)
        on_step(50, 60, "attack search")
        on_step(60, 60, "attack encoder")
        last = frame(terminal)
    assert "looking for what to draw" in searching and " of " not in searching and "left" not in searching
    assert "attack search" in counted and "50 of 120" in counted and "about" in counted
    assert "attack encoder" in last and "60 of 60" in last


def frame(terminal: Terminal) -> str:
    """What a refresh of the bar draws now."""
    import gc

    from rich.progress import Progress

    (bars,) = (one for one in gc.get_objects() if type(one) is Progress and one.live.is_started)
    terminal.truncate(0)
    bars.refresh()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
