"""The pictures of the HTML report in docs/, of a scan of the bundled example.

    python -m benchmarks.report_screens

needs Chromium and takes about a minute. The pages are those of

    loraudit scan models/examples/example.safetensors --reference models/examples/photos -f html -o FILE

once as it is, once with --reveal: the person does not exist.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from tests.browser import Chromium, find_chromium

_ROOT: Final = Path(__file__).parent.parent
_SCAN: Final = (
    "-m", "loraudit", "scan", "models/examples/example.safetensors", "--reference", "models/examples/photos",
    "--fail-on", "never", "--offline", "-f", "html", "-o",
)  # fmt: skip
_COLOURS: Final = 256
"""Of a picture, so that it stays small."""


def main() -> None:
    """Write `report-light.png`, `report-dark.png` and `report-narrow.png`."""
    command = find_chromium()
    if command is None:
        sys.exit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, Chromium(command) as browser:
        pages = {}
        for reveal in (False, True):
            page = pages[reveal] = Path(folder) / f"{reveal}.html"
            words = (*_SCAN, str(page), *(["--reveal"] if reveal else []))
            subprocess.run([sys.executable, *words], check=True, cwd=_ROOT)  # noqa: S603
        for name, reveal, width, height, dark in (
            ("light", True, 1280, 3400, False),
            ("dark", False, 1280, 1700, True),
            ("narrow", True, 390, 2400, False),
        ):
            browser.open(pages[reveal], width, dark)
            with Image.open(io.BytesIO(browser.screenshot(height))) as picture:
                small = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
            small.save(_ROOT / "docs" / f"report-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
