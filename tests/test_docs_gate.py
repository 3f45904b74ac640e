"""docs/gate.md is true: its commands are run in its order, and its files are used as they stand there."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.headers import KOHYA, write

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(console|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
END = "--- end of the output ---"


def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    lora = write(tmp_path / "loras" / "jane_doe_v3.safetensors", KOHYA)
    program = tmp_path / "bin" / "loraudit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m loraudit "$@"\n')
    program.chmod(0o755)
    script, told = [], []
    for kind, block in BLOCKS:
        if kind == "toml":
            name = "allow.toml" if "[[allow]]" in block else "pyproject.toml"
            text = block.replace("SHA256", hashlib.sha256(lora.read_bytes()).hexdigest())
            script.append(f"cat > {name} <<'EOF'\n{text}EOF")
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            script += [command, f"echo '{END}'"]
            told.append((command, output))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LORAUDIT_")}
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "exec 2>&1\n" + "\n".join(script)], capture_output=True, text=True, check=True,
        cwd=tmp_path, env=environment | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seen = done.stdout.split(f"{END}\n")[:-1]
    assert [(command, output) for (command, _), output in zip(told, seen, strict=True)] == told
    assert len(told) > 9
