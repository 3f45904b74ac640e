"""Words of a file in every output of the command line: shown or left out, obeyed by nothing.

A terminal obeys ESC and C1 sequences and bidirectional controls, Rich its markup, GitHub's runner `::error::`
at the start of a line of stdout and stderr. A Markdown viewer would obey HTML and links to pictures, and what
collects SARIF links in messages. A spreadsheet would obey a cell that begins with `=`: no output is one.
"""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from loraudit.lora.write import serialize
from tests.headers import ATTN, TENSORS

ROOT = Path(__file__).parent.parent
MARKUP = "[red]PASS[/red] [/b] name[/] [link=https://evil]x[/link] :warning:"
CONTROLS = "\x1b[2J\x1b[31m\x1b]8;;https://evil\x07\x9b31m\u202ecod\u2066\u200b\u2028"
COMMANDS = "\n::error::pwned\r\n##[error]pwned"
PAGES = "<script>alert(1)</script> ![x](https://evil/b.png) =HYPERLINK(1)"
HOSTILE = f"::error::a {MARKUP} {CONTROLS} {COMMANDS} {PAGES}"
PIECES = ("::error::a", MARKUP, CONTROLS, COMMANDS, PAGES, HOSTILE)
DRAWN = re.compile(r"\x1b\[(?:[\d;]*m|2K|1A|\?25[lh])|\r")
"""Colours, and what a progress bar moves with."""

Run = Callable[..., tuple[int, str, str]]


def off_terminal(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "loraudit", *map(str, arguments)],
        capture_output=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def on_terminal(*arguments: object, no_color: str = "") -> tuple[int, str, str]:
    """The same of a terminal of 80 columns, stderr in stdout as there."""
    terminal, end = pty.openpty()
    plain = {"NO_COLOR", "CI", "GITHUB_ACTIONS", "FORCE_COLOR"}
    env = {key: value for key, value in os.environ.items() if key not in plain}
    process = subprocess.Popen(
        [sys.executable, "-m", "loraudit", *map(str, arguments)],
        stdin=end, stdout=end, stderr=end, cwd=ROOT,
        env=env | {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": no_color},
    )  # fmt: skip
    os.close(end)
    data = b""
    try:
        while block := os.read(terminal, 65536):
            data += block
    except OSError:  # on Linux the end of a terminal is an error
        pass
    os.close(terminal)
    return process.wait(timeout=60), data.decode().replace("\r\n", "\n"), ""


def hostile(folder: Path) -> Path:
    """A LoRA all of whose words are hostile, the name of the folder and of the file too."""
    name = "::error::[red]x[bold] \u202e\x1b[2J"
    folder = folder / name
    folder.mkdir()
    metadata = {
        **dict.fromkeys(("ss_output_name", "modelspec.author", "ss_session_id", "modelspec.date"), HOSTILE),
        **{f"{at}{piece}": piece for at, piece in enumerate(PIECES)},
        "::error::key": "x",
        "modelspec.title": MARKUP,
        "modelspec.trigger_phrase": COMMANDS,
        "trained_words": PAGES,
        "ss_sd_model_name": f"/home/{HOSTILE}",
        "ss_dataset_dirs": json.dumps({f"10_{piece} person": {} for piece in PIECES}),
        "ss_tag_frequency": json.dumps({HOSTILE: dict.fromkeys(PIECES, 1)}),
    }
    tensors = {f"{piece}.{at}": np.ones(1, np.float32) for at, piece in enumerate(PIECES)}
    tensors |= {f"bundle_emb.{piece.replace('.', '')}.x": np.ones(1, np.float32) for piece in PIECES}
    tensors |= {f"{ATTN}x{COMMANDS}.lora.up.weight": np.ones(1, np.float32)}
    path = folder / f"{name}.safetensors"
    path.write_bytes(serialize(TENSORS | tensors, metadata))
    (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "::error::x.ckpt").write_bytes(b"")
    (folder / "README.md").write_text(f"---\ninstance_prompt: {MARKUP} {PAGES}\n---\n")
    return path


def assert_inert(text: str, drawn: bool) -> None:
    """Nothing but print and new lines, and what is `drawn` with; no line is a command."""
    rest = DRAWN.sub("", text) if drawn else text
    assert all(line.isprintable() for line in rest.split("\n")), ascii(rest)
    assert not any(line.lstrip(" ┃").startswith(("::", "##[")) for line in rest.split("\n"))


def assert_inert_page(markdown: str) -> None:
    """The page has no link, no picture, no script."""
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert "<table>" in page
    assert not re.search(r"<(?:script|img|a)\b|://", page)


COMMAND_LINES: Mapping[str, tuple[str, ...]] = {
    "scan": ("scan", "@", "--depth", "metadata"),
    "scan, weights": ("scan", "@", "--depth", "weights"),
    "scan --reveal": ("scan", "@", "--depth", "metadata", "--reveal"),
    "scan, json": ("scan", "@", "--depth", "metadata", "-f", "json"),
    "scan --reveal, json": ("scan", "@", "--depth", "metadata", "-f", "json", "--reveal"),
    "scan, sarif": ("scan", "@", "--depth", "metadata", "-f", "sarif"),
    "scan --reveal, sarif": ("scan", "@", "--depth", "metadata", "-f", "sarif", "--reveal"),
    "scan, markdown": ("scan", "@", "--depth", "metadata", "-f", "markdown"),
    "scan --reveal, markdown": ("scan", "@", "--depth", "metadata", "-f", "markdown", "--reveal"),
    "scan a folder": ("scan", "@folder", "--depth", "metadata"),
    "scan several": ("scan", "@", "@broken", "--depth", "metadata"),
    "inspect": ("inspect", "@"),
    "inspect, json": ("inspect", "@", "-f", "json"),
    "inspect a broken file": ("inspect", "@broken"),
    "export": ("inspect", "@", "--export", "kohya", "-o", "@new"),
    "scrub": ("scrub", "@", "-o", "@new"),
}


CODES = {"inspect": 0, "inspect, json": 0, "inspect a broken file": 3, "export": 4, "scrub": 0}
"""1 where it is not here: something was found."""


@pytest.mark.parametrize("run", [off_terminal, on_terminal])
@pytest.mark.parametrize("kind", COMMAND_LINES)
def test_inert(kind: str, run: Run, tmp_path: Path) -> None:
    path = hostile(tmp_path)
    broken = path.with_name("::error::[red]\u202e.safetensors")
    broken.write_bytes(serialize({HOSTILE: np.ones(1, np.float32)}, {})[:-1])
    if "folder" not in kind:
        # A file is looked at without its neighbours.
        (path.parent / "::error::x.ckpt").unlink()
    names = {"@": path, "@folder": path.parent, "@broken": broken, "@new": path.with_name("::error::new[b]")}
    code, out, err = run(*(names.get(word, word) for word in COMMAND_LINES[kind]))
    assert out + err and "internal error" not in out + err
    assert code == CODES.get(kind, 1)
    assert_inert(out, drawn=run is on_terminal)
    assert_inert(err, drawn=False)
    if kind.endswith("markdown"):
        assert_inert_page(out)
    if kind.endswith("sarif"):
        assert "[x](" not in out and "[/red]" not in out
    if kind.endswith(("json", "sarif")) and run is off_terminal:
        assert out.isascii() and json.loads(out)
    if (run is on_terminal and kind in {"scan", "scan several"}) or kind == "scan --reveal":
        assert "[red]PASS[/red]" in out  # as it is, not in red
        assert "<script>" in out


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_on_a_terminal_alone(no_color: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize(TENSORS, {"ss_output_name": "jane_doe"}))
    _, out, _ = on_terminal("scan", path, "--depth", "metadata", no_color=no_color)
    report = out[out.index("loraudit 0.") :]  # the bar above it moves and is erased
    assert ("\x1b[" in report) is not bool(no_color)
    assert "jane_doe" in report
    _, out, _ = off_terminal("scan", path, "--depth", "metadata")
    assert "\x1b[" not in out and "jane_doe" not in out


BAD = ("\x1b[2J", "\x9b31m", "\u202e", "a\n::error::x", "  ##[error]x", "\x07", "\u2028")


@pytest.mark.parametrize("text", BAD)
def test_the_check_notices(text: str) -> None:
    with pytest.raises(AssertionError):
        assert_inert_page(f"| a |\n|---|\n| x |\n\n{text} ![x](y)")
    assert_inert("plain\n[red]x[/red] \x1b[1mbold\x1b[0m", drawn=True)
    with pytest.raises(AssertionError):
        assert_inert(text, drawn=True)
