"""action.yml as a GitHub runner runs it, the installing step included, on a leaking and a scrubbed file.

    python benchmarks/action.py

Steps that use other actions (Python, cache, upload) are named and not run. The install needs the package
index. All files are in a temporary folder.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loraudit.metadata.scrub import scrub
from tests.headers import KOHYA, write
from tests.workflow import Job, run_action


def told(name: str, job: Job, seconds: float) -> None:
    """Print the result of a job, without its log."""
    print(f"{name}: exit code {job.code} ({seconds:.0f} s), outputs {', '.join(job.outputs['scan'])}")
    print(f"    other actions: {', '.join(job.used)}")
    for line in [line for line in job.summary.splitlines() if line.startswith(("## ", "| **"))]:
        print(f"    {line}")


def main() -> None:
    """Run both files; end with exit code 1 if one did not go as it must."""
    os.environ.pop("PYTHONPATH", None)  # so that the installed package runs, not this checkout
    with tempfile.TemporaryDirectory() as name:
        work, temp = Path(name, "work"), Path(name, "temp")
        work.mkdir()
        temp.mkdir()
        write(work / "ada.safetensors", KOHYA)
        scrub(work / "ada.safetensors", work / "scrubbed.safetensors")
        codes = []
        for file in ("ada.safetensors", "scrubbed.safetensors"):
            started = time.perf_counter()
            job = run_action(work, temp, {"path": file, "upload-sarif": "true"})
            if "scan" not in job.outputs:
                sys.exit(job.log)
            told(file, job, time.perf_counter() - started)
            codes.append(job.code)
        sys.exit(0 if codes == [1, 0] else "not as it must be")


if __name__ == "__main__":
    main()
