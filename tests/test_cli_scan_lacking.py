"""The first command where something is lacking: torch, the face model, memory, an encoder.

Commands run in processes of their own. The report holds what the file says and what its weights are, and what
was not looked at with one command that mends it.
"""

import json
import resource
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from loraudit.base import limits
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card, models_dir
from loraudit.encoder import save_encoder
from loraudit.errors import Incomplete
from loraudit.lora import write_kohya
from loraudit.report.json_v1 import schema
from tests.audits import random_encoder, random_factors
from tests.headers import KOHYA
from tests.test_exit_codes import loraudit

QUICK = ("--samples", 2, "--steps", 2, "--device", "cpu", "--offline")
DRAWN = ("--attack", "prompts", *QUICK)

BROKEN = """
import importlib.machinery, sys
class Loader:
    def exec_module(self, module): pass
    def create_module(self, spec):
        raise ImportError("libtorch.so: cannot open shared object file", name=spec.name)
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, Loader()) if name == "torch" else None
sys.meta_path.insert(0, Finder())
"""
"""Code after which torch is installed and cannot be loaded."""

LIGHT = """
import sys
from types import SimpleNamespace
LACKING = {
    "accelerate", "diffusers", "facenet_pytorch", "matplotlib", "open_clip", "peft", "scipy", "tokenizers",
    "torch", "torchvision", "transformers",
}
def without(finder):
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in LACKING else finder.find_spec(name, path, target)
    return SimpleNamespace(find_spec=find_spec)
sys.meta_path[:] = [without(finder) for finder in sys.meta_path]
"""
"""Code after which nothing of `loraudit[attack]` is installed."""

REFUSED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""
"""Code after which every search for torch is refused."""

PHOTOGRAPHS = """
from dataclasses import replace
import loraudit.base.source as source
tiny = source.base_card("tiny")
source.base_card = lambda name: replace(tiny, face="facenet", clip="clip-vit-l-14")
"""
"""Code after which the tiny base wants the models for photographs, as Stable Diffusion does."""


@pytest.fixture(scope="module")
def tiny() -> Base:
    return load_base("tiny")


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "ada.safetensors"
    write_kohya(random_factors(tiny), path, {"modelspec.trigger_phrase": "zwx"})
    return path


@pytest.fixture(scope="module")
def named(tiny, tmp_path_factory) -> Path:
    """The same with the name of a person in its header."""
    path = tmp_path_factory.mktemp("named") / "bea.safetensors"
    write_kohya(random_factors(tiny), path, KOHYA)
    return path


def answered(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The words of a report in text, in one line; whatever lacks, there is a report and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "error" not in done.stderr
    words = " ".join(done.stdout.replace("┃", " ").split())
    assert "tiny LoRA, kohya layout, rank 2, 36 of 36 modules read" in words
    assert ("LA-NAME-001" in words) == (code == 1)
    return words


@pytest.mark.parametrize("lacking", [LIGHT, REFUSED, BROKEN, "import sys; sys.modules['torch'] = None"])
def test_without_torch(lacking: str, lora: Path, named: Path) -> None:
    for target, code in ((lora, 4), (named, 1)):
        words = answered(loraudit("scan", target, code=lacking), code)
        assert "Not looked at the attack: torch " in words
        assert "install what attacks need with: pip install 'loraudit[attack]'" in words
        assert "attacked nothing" in words
    done = loraudit("scan", lora, named, "-f", "json", code=lacking)
    report, other = json.loads(done.stdout)["reports"]
    jsonschema.validate(report, schema())
    assert (report["target"]["rank"], len(report["incomplete"])) == ([2, 2], 1)
    assert (len(report["update"]), done.returncode) == (36, 1)
    assert other["findings"][0]["id"] == "LA-NAME-001"


def test_without_the_face_model(lora: Path, named: Path, tmp_path: Path, monkeypatch) -> None:
    """As with photographs and no network: the scorers of photographs are asked for on the tiny base."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    folder = tmp_path / "out"
    words = answered(loraudit("scan", lora, *DRAWN, "--save-images", folder, code=PHOTOGRAPHS), 4)
    assert "Not looked at face model: the face model for photographs is not on this machine" in words
    command = words.partition("fetch it with: ")[2].partition(" A lower bound")[0]
    # The text wraps the command, and words in a shell are as good as a line.
    assert shlex.split(command)[:4] == ["curl", "-L", "--create-dirs", "-o"]
    assert (folder / "sheet.png").exists(), "pictures are drawn all the same"
    assert answered(loraudit("scan", named, *DRAWN, code=PHOTOGRAPHS), 1)


def test_the_command_that_fetches_the_face_model_puts_it_where_it_is_looked_for(tmp_path: Path) -> None:
    from loraudit.scores.facenet import SOURCE_URL, facenet_weights

    with pytest.raises(Incomplete) as told:
        facenet_weights(tmp_path / "cache", offline=True)
    # A curl that writes what it was asked to fetch.
    (tmp_path / "bin").mkdir()
    curl = tmp_path / "bin" / "curl"
    curl.write_text('#!/bin/sh\nmkdir -p "$(dirname "$4")"\necho "$5" > "$4"\n')
    curl.chmod(0o755)
    for home, place in (
        ({"TORCH_HOME": f"{tmp_path}/torch"}, "torch"),
        ({"XDG_CACHE_HOME": f"{tmp_path}/xdg cache"}, "xdg cache/torch"),
        ({}, "home/.cache/torch"),
    ):
        environment = {"PATH": f"{curl.parent}:/usr/bin:/bin", "HOME": f"{tmp_path}/home"} | home
        command = told.value.hint.removeprefix("fetch it with: ")
        subprocess.run(["sh", "-c", command], env=environment, check=True)
        fetched = tmp_path / place / "checkpoints" / SOURCE_URL.rpartition("/")[2]
        assert fetched.read_text().strip() == SOURCE_URL
        code = f"import os; os.environ.clear(); os.environ.update({environment!r})"
        script = (
            f"{code}; from pathlib import Path; from loraudit.scores.facenet import facenet_weights; "
            f"facenet_weights(Path({str(tmp_path / 'new')!r}), offline=True)"
        )
        # It is found there, and refused as it is not the published one.
        done = loraudit(code=script)
        assert "is not the published face model" in done.stderr


def limited(kibibytes: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({kibibytes * 1024},) * 2)"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is taken")
@pytest.mark.parametrize("kibibytes", [600_000, 3_500_000])
def test_without_memory_for_an_attack(kibibytes: int, lora: Path, named: Path) -> None:
    """Libraries of linear algebra end the process where they find none: with the code of a finding."""
    for target, code in ((lora, 4), (named, 1)):
        words = answered(loraudit("scan", target, *DRAWN, code=limited(kibibytes)), code)
        assert "Not looked at the attack: not enough memory: an attack takes 4.0 GiB to start" in words
        assert "raise the limit of the container or of ulimit -v" in words


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is taken")
def test_without_memory_for_the_weights(lora: Path, named: Path) -> None:
    for target, code in ((lora, 4), (named, 1)):
        done = loraudit("scan", target, code=limited(150_000))
        words = " ".join(done.stdout.split())
        assert (done.returncode, done.stderr) == (code, "")
        assert "Not looked at the weights: not enough memory: reading weights takes 0.2 GiB" in words
        assert ("LA-NAME-001" in words) == (code == 1)


def test_memory_of_a_control_group(tmp_path: Path, monkeypatch) -> None:
    """A container has as much as its group and every group around it, whatever the machine has."""
    monkeypatch.setattr(limits, "_GROUPS", tmp_path)
    monkeypatch.setattr(limits, "_OWN", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "_mapped", lambda: None)
    assert limits.memory_left() is None
    limits.require_left(limits.ATTACKS, "an attack")

    def group(folder: Path, names: tuple[str, str], most: object, used: int, spare: int, kind: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (most, used), strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{kind} {spare}\nfile 7\n")

    new, old = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (tmp_path / "cgroup").write_text("0::/outer/inner\n")
    group(tmp_path / "outer" / "inner", new, "max", 10, 0, "inactive_file")
    assert limits.memory_left() is None, "no limit"
    group(tmp_path / "outer", new, 2**30, 2**29, 2**28, "inactive_file")
    assert limits.memory_left() == 2**29 + 2**28
    group(tmp_path / "outer" / "inner", new, 1000, 900, 50, "inactive_file")
    assert limits.memory_left() == 150
    with pytest.raises(Incomplete, match=r"not enough memory: an attack takes 0\.6 GiB to start"):
        limits.require_left(limits.ATTACKS, "an attack")
    # The older kind, seen from inside a container: its group is the root.
    (tmp_path / "cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n")
    assert limits.memory_left() is None
    group(tmp_path / "memory", old, 2**63 - 4096, 10, 0, "total_inactive_file")
    assert limits.memory_left() is None, "no limit"
    group(tmp_path / "memory", old, 700, 300, 100, "total_inactive_file")
    assert limits.memory_left() == 500
    (tmp_path / "memory" / "memory.stat").write_text("total_inactive_file x\n")
    assert limits.memory_left() is None


def test_memory_of_this_process() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    done = loraudit(
        code=f"{limited(400_000)}; from loraudit.base.limits import memory_left; print(memory_left())"
    )
    assert before == resource.getrlimit(resource.RLIMIT_AS)
    assert 100 * 2**20 < int(done.stdout.split()[0]) < 400_000 * 1024


def test_without_an_encoder_a_scan_runs_what_needs_none(scan, lora, monkeypatch) -> None:
    monkeypatch.setattr(
        "loraudit.attacks.encoder.base_card", lambda name: replace(base_card(name), encoders={})
    )
    code, out, err = scan(lora, *QUICK, "-f", "json", "--fail-on", "never")
    report = json.loads(out)
    assert report["incomplete"] == []
    assert "left out: attack encoder: no encoder for the base tiny ships" in err
    assert report["settings"]["attacks"][0] == "search"
    # One that was asked for is missed.
    named = ["--attack", "paper", "--attack", "search"]
    code, out, _ = scan(lora, *QUICK, *named, "-f", "json", "--fail-on", "never")
    report = json.loads(out)
    assert code == 4
    assert {finding["id"]: finding["severity"] for finding in report["findings"]} == {
        "LA-CAPTION-002": "low",  # the trigger in the metadata: the attacks alone cannot tell
        "LA-IDENTITY-003": "inconclusive",
    }
    (gap,) = report["incomplete"]
    assert gap["what"] == "attack paper"
    assert "no encoder for the base tiny ships with loraudit; train one" in gap["why"]


def test_an_encoder_of_another_rank_is_a_gap_and_a_missing_one_an_error(scan, lora, tiny, tmp_path) -> None:
    encoder = random_encoder(tiny, rank=3)
    save_encoder(tmp_path / "three", encoder, encoder.frozen, base="tiny")
    code, out, _ = scan(lora, *QUICK, "--encoder", tmp_path / "three", "-f", "json")
    assert code == 4
    assert "reads rank 3, ada.safetensors has rank 2" in json.loads(out)["incomplete"][0]["why"]
    code, out, err = scan(lora, *QUICK, "--encoder", tmp_path / "gone")
    assert (code, out) == (2, "")
    assert "there is no encoder" in err and "gone" in err


def test_too_little_memory_is_incomplete(scan, lora, monkeypatch) -> None:
    monkeypatch.setattr("loraudit.base.memory.available_memory", lambda: 1000)
    code, out, _ = scan(lora, *QUICK, "--base", models_dir() / "tiny-sd", "-f", "json")
    assert code == 4
    assert "GiB of memory" in json.loads(out)["incomplete"][0]["why"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_memory_that_runs_out_is_incomplete(scan, lora, monkeypatch, error) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(Base, "sample", fail)
    code, out, _ = scan(lora, *QUICK, "--attack", "prompts", "-f", "json")
    assert code == 4
    assert "not enough memory for the base tiny" in json.loads(out)["incomplete"][0]["why"]
