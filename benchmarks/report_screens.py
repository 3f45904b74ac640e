"""The pictures of reports in docs/, from a scan of the bundled example.

    python -m benchmarks.report_screens

Needs Chromium and takes a few minutes. The scan is

    loraudit scan models/examples/example.safetensors --reference models/examples/photos -o html=FILE

on a terminal of 80 columns, once as above and once with --reveal. The person does not exist.
"""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Final

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Span, Text

from tests.browser import Chromium, find_chromium

_ROOT: Final = Path(__file__).parent.parent
_SCAN: Final = (
    "-m", "loraudit", "scan", "models/examples/example.safetensors", "--reference", "models/examples/photos",
    "--fail-on", "never", "--offline", "-f", "text", "-o",
)  # fmt: skip
_COLOURS: Final = 256
"""Colours of a picture, few so that the file stays small."""
_COLUMNS: Final = 80
_GROUND: Final = Color.from_rgb(22, 25, 31)
_THEME: Final = TerminalTheme(
    (22, 25, 31), (228, 231, 236),
    [
        (22, 25, 31), (255, 107, 117), (126, 211, 148), (240, 190, 100), (125, 175, 255), (255, 140, 180),
        (110, 205, 215), (228, 231, 236),
    ],
)  # fmt: skip
_WINDOW: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: {background}; padding: 28px 32px; width: max-content; }}
pre {{ margin: 0; color: {foreground}; font: 18px "DejaVu Sans Mono", monospace; }}
</style><pre>{code}</pre>
"""


def on_a_terminal(words: tuple[str, ...]) -> str:
    """Run Python with `words` on a terminal; return its output with ANSI codes. Exits if the run fails."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, _COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    command = [sys.executable, *words]
    process = subprocess.Popen(command, stdout=its, cwd=_ROOT, env=environment | {"TERM": "xterm"})  # noqa: S603
    os.close(its)
    shown = b""
    try:
        while data := os.read(ours, 1 << 16):
            shown += data
    except OSError:  # the end of a terminal on Linux
        pass
    os.close(ours)
    if process.wait():
        sys.exit(f"the scan failed: exit code {process.returncode}")
    return shown.decode().replace("\r\n", "\n")


def as_page(shown: str) -> str:
    """Turn the output of a terminal into an HTML page."""
    console = Console(file=io.StringIO(), record=True, width=_COLUMNS, force_terminal=True)
    text = Text.from_ansi(shown.rstrip())
    # Rich's HTML swaps only colours that a style sets; a terminal swaps its own as well.
    text.spans = [
        Span(start, end, Style(color=_GROUND, bgcolor=style.color, bold=True))
        if isinstance(style, Style) and style.reverse
        else Span(start, end, style)
        for start, end, style in text.spans
    ]
    console.print(text, soft_wrap=True)
    return console.export_html(theme=_THEME, code_format=_WINDOW, inline_styles=True)


def save(png: bytes, name: str) -> None:
    """Reduce a picture to few colours and save the result in docs/."""
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(_ROOT / "docs" / f"report-{name}.png", optimize=True)


def main() -> None:
    """Write `report-light.png`, `report-dark.png`, `report-narrow.png` and `report-terminal.png`."""
    command = find_chromium()
    if command is None:
        sys.exit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, Chromium(command) as browser:
        pages = {reveal: Path(folder) / f"{reveal}.html" for reveal in (False, True)}
        shown = [
            on_a_terminal((*_SCAN, f"html={page}", *(["--reveal"] if reveal else [])))
            for reveal, page in pages.items()
        ]
        for name, reveal, width, height, dark in (
            ("light", True, 1280, 3400, False),
            ("dark", False, 1280, 1700, True),
            ("narrow", True, 390, 2400, False),
        ):
            browser.open(pages[reveal], width, dark)
            save(browser.screenshot(height), name)
        terminal = Path(folder) / "terminal.html"
        terminal.write_text(as_page(shown[0]), encoding="utf-8")
        browser.open(terminal, 100)
        save(browser.screenshot(browser.evaluate("document.body.offsetHeight")), "terminal")


if __name__ == "__main__":
    main()
