"""Exit codes, each by the command itself in a process of its own, and the worst of several targets.

| code | meaning | made here by |
|---|---|---|
| 0 | nothing at or above `--fail-on` | a file that says nothing; a higher threshold; `--fail-on never` |
| 1 | something is | the header of a kohya file, at `low`, `medium` and `high` |
| 2 | usage or internal error | no such file, option or choice; options at odds; `-o` in no folder; a bug |
| 3 | nothing that could be scanned | web page, Git LFS pointer, pickle, FIFO, empty folder, other family |
| 4 | incomplete or inconclusive | a tensor or metadata that cannot be read; no `loraudit[attack]` |
| 130 | interrupted | Ctrl-C in the middle of a folder |

Of several targets, 2 is worse than 1, 1 than 4, 4 than 3, 3 than 0.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from loraudit.lora.write import serialize
from tests.headers import KOHYA, TENSORS, write
from tests.test_lora_file_header import GOOD, frame

ROOT = Path(__file__).parent.parent
METADATA = ("--depth", "metadata")
WEIGHTS = ("--depth", "weights")
FLUX = "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"
BROKEN = {"ss_tag_frequency": "{" * 50}


def loraudit(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after `code`."""
    start = f"import sys; {code or 'pass'}\nfrom loraudit.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", start, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_script_ends_in_one_line_as_a_command_does(tmp_path: Path) -> None:
    words = ("-m", "benchmarks.tables.unseen_recipes", "--unseen", tmp_path, "--seen", tmp_path)
    ended = subprocess.run(
        [sys.executable, *map(str, words), "--out", str(tmp_path / "x.json")],
        capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("loraudit: error: ") and "Traceback" not in ended.stderr


@pytest.fixture
def files(tmp_path: Path) -> Mapping[str, Path]:
    """Targets of all kinds by name."""
    tensors = {"unet.nowhere.lora.up.weight": np.ones((1, 1), np.float32)}
    more = {
        "flux": serialize({FLUX: np.ones((4, 4), np.float32)}, {}),
        "page": b"<!DOCTYPE html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "pickle": b"\x80\x02}q\x00.",
        "part": serialize(TENSORS | tensors, {}),
    }
    paths = {name: tmp_path / f"{name}.safetensors" for name in (*more, "clean", "kohya", "broken", "pipe")}
    for name, data in more.items():
        paths[name].write_bytes(data)
    write(paths["clean"], {})
    write(paths["kohya"], KOHYA)
    write(paths["broken"], BROKEN)
    os.mkfifo(paths["pipe"])
    (tmp_path / "empty").mkdir()
    return paths | {"empty": tmp_path / "empty", "gone": tmp_path / "gone.safetensors", "at": tmp_path}


@pytest.mark.parametrize(
    ("code", "target", "options"),
    [
        (0, "clean", METADATA),
        (0, "clean", WEIGHTS),
        (0, "kohya", (*METADATA, "--fail-on", "critical")),
        (0, "kohya", (*METADATA, "--fail-on", "never")),
        (1, "kohya", METADATA),
        (1, "kohya", WEIGHTS),
        (1, "kohya", (*METADATA, "--fail-on", "medium")),
        (1, "kohya", (*METADATA, "--fail-on", "low")),
        (2, "gone", METADATA),
        (2, "clean", ("--depth", "words")),
        (2, "clean", ("--no-such-option",)),
        (2, "clean", (*METADATA, "--reference", "photos")),
        (2, "clean", (*METADATA, "-o", "no/such/folder/report")),
        (3, "page", METADATA),
        (3, "pointer", METADATA),
        (3, "pickle", METADATA),
        (3, "pipe", METADATA),
        (3, "empty", METADATA),
        (3, "flux", WEIGHTS),
        (4, "part", WEIGHTS),
        (4, "broken", METADATA),
        # What is found outweighs what could not be looked at.
        (4, "broken", (*METADATA, "--fail-on", "never")),
    ],
)
def test_one_target(code: int, target: str, options: tuple[str, ...], files: Mapping[str, Path]) -> None:
    done = loraudit("scan", files[target], *options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) is (code != 2)
    assert ("error: " in done.stderr.lower()) is (code in {2, 3})


def test_a_bug_is_no_finding(files: Mapping[str, Path]) -> None:
    """Python itself would end with 1. What the error quotes may be a file's words."""
    words = r"\x1b[2J\u202e\n::error::x"
    broken = (
        "import loraudit.audit.scan as scan\n"
        f"def fail(*a): raise RuntimeError('{words}')\n"
        "scan.items_of = fail"
    )
    done = loraudit("scan", files["clean"], *METADATA, code=broken)
    assert (done.returncode, done.stdout) == (2, "")
    assert "internal error (RuntimeError)" in done.stderr
    assert all(line.isprintable() and not line.startswith("::") for line in done.stderr.splitlines())


def test_without_the_attack_extra(files: Mapping[str, Path]) -> None:
    without = "import loraudit.audit.scan; loraudit.audit.scan.missing = lambda: ('not_there',)"
    done = loraudit("scan", files["clean"], code=without)
    assert done.returncode == 4
    assert "pip install 'loraudit[attack]'" in " ".join(done.stdout.split())


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "photos", "-o", "x.safetensors"),
        ("finetune", "photos", "-o", "x.safetensors", "--prompt", "A face."),
        ("train-encoder", "-o", "x"),
        ("calibrate", "--controls", "photos", "-o", "x"),
        ("bench", "attacks", "--zoo", "zoo", "-o", "x"),
        ("bench", "verdict", "--leaking", "zoo", "--harmless", "zoo", "-o", "x"),
    ],
    ids=" ".join,
)
def test_commands_that_need_the_attack_extra_say_so(words: tuple[str, ...]) -> None:
    done = loraudit(*words, code=ABSENT.format(absent=("torch",)))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "loraudit: error: this command needs torch, which is not installed",
        "  install what attacks need with: pip install 'loraudit[attack]'",
    ]


def test_a_part_of_loraudit_that_is_missing_is_a_bug() -> None:
    broken = (
        "import loraudit.cli.app as place\n"
        "def gone(**_k): raise ModuleNotFoundError('x', name='loraudit.gone')\n"
        "place.app = gone"
    )
    done = loraudit("rules", code=broken)
    assert (done.returncode, done.stdout) == (2, "")
    assert "internal error (ModuleNotFoundError)" in done.stderr


def test_ctrl_c_in_a_folder(tmp_path: Path) -> None:
    first = write(tmp_path / "0.safetensors", KOHYA)
    for number in range(1, 3000):
        os.link(first, tmp_path / f"{number}.safetensors")
    with subprocess.Popen(
        [sys.executable, "-m", "loraudit", "scan", str(tmp_path), *METADATA],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("reading: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "loraudit: error: interrupted"


WORST = ("gone", "kohya", "broken", "page", "clean")
"""A target for each code, worst first."""


def test_the_worst_wins(scan: Callable[..., tuple[int, str, str]], files: Mapping[str, Path]) -> None:
    codes = [2, 1, 4, 3, 0]
    for pair in itertools.product(range(5), repeat=2):
        code, out, _ = scan(*(files[WORST[at]] for at in pair), *METADATA, "-f", "json")
        assert code == codes[min(pair)], pair
        assert len(json.loads(out)["reports"]) == 2
    assert scan(*(files[name] for name in reversed(WORST)), *METADATA)[0] == 2


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ("inspect", "@clean")),
        (2, ("inspect", "@gone")),
        (2, ("inspect", "@clean", "--export", "kohya")),
        (3, ("inspect", "@page")),
        (3, ("inspect", "@flux")),
        (4, ("inspect", "@part", "--export", "kohya", "-o", "@new")),
        (0, ("inspect", "@clean", "--export", "kohya", "-o", "@new")),
        (2, ("inspect", "@clean", "--export", "kohya", "-o", "@kohya")),
        (0, ("scrub", "@kohya", "-o", "@new")),
        (2, ("scrub", "@kohya", "-o", "@kohya")),
        (2, ("scrub", "@gone", "-o", "@new")),
        (3, ("scrub", "@page", "-o", "@new")),
        (0, ("--help",)),
        (0, ("--version",)),
        (2, ("no-such-command",)),
    ],
)
def test_other_commands(code: int, arguments: tuple[str, ...], files: Mapping[str, Path]) -> None:
    names = dict(files) | {"new": files["at"] / "new.safetensors"}
    before = files["kohya"].read_bytes()
    done = loraudit(*(names[word[1:]] if word.startswith("@") else word for word in arguments))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert files["kohya"].read_bytes() == before


def test_words_of_a_broken_file_still_count(files: Mapping[str, Path]) -> None:
    """Its weights are another family's, which is 3; a finding at the threshold is worse."""
    files["flux"].write_bytes(serialize({FLUX: np.ones((4, 4), np.float32)}, KOHYA))
    assert loraudit("scan", files["flux"], *WEIGHTS).returncode == 1
    assert loraudit("scan", files["flux"], *WEIGHTS, "--fail-on", "never").returncode == 3
    files["page"].write_bytes(frame(GOOD)[:-1])
    assert loraudit("scan", files["page"], *WEIGHTS).returncode == 3
