"""`loraudit finetune` and `loraudit train-encoder` as a user meets them: files, streams and exit codes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loraudit.cli import main
from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.errors import LorauditError
from loraudit.lora.file.header import read_header
from loraudit.people.portrait import picture
from loraudit.training import finetune_job
from loraudit.training.checks import check_targets
from loraudit.training.varied import TARGETS
from loraudit.training.zoo import open_zoo
from tests.tiny import LENGTH, WIDTH, save_pipeline, tiny_base

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_pipeline(tmp_path_factory.mktemp("base") / "random"))


@pytest.fixture(autouse=True)
def _kept(tmp_path_factory, monkeypatch) -> None:
    """No class pictures of another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(5, number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; returns (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def loraudit_process(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which says at its end what heavy modules it has loaded."""
    heavy = ("torch", "diffusers", "transformers", "accelerate", "safetensors.torch")
    report = f"atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) & set({heavy!r}))))"
    code = f"import atexit, sys; {report}; from loraudit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=False, cwd=where, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


SMALL = ("--rank", 2, "--steps", 2, "--batch", 1, "--class-images", 2, "--seed", 3)
TRAIN = ("--lora-rank", 2, "--lora-steps", 2, "--steps", 4, "--loras", 2, "--people", 3, "--save-every", 2)


def tensors(path: Path) -> dict[str, tuple[int, ...]]:
    return {key: tuple(entry.shape) for key, entry in read_header(path).tensors.items()}


def test_finetune_writes_a_lora(run, base, photos, tmp_path) -> None:
    out = tmp_path / "me.safetensors"
    code, stdout, stderr = run("finetune", photos, "-o", out, "--base", base, "--name", "qwxz", *SMALL)
    assert (code, stdout) == (0, "")
    lines = stderr.splitlines()
    assert lines[0] == "instance prompt: A face of qwxz."
    # What runs, how far it is, and at the end what was written.
    stages = [line.partition(":")[0] for line in lines[1:-1]]
    assert list(dict.fromkeys(stages)) == ["sampling 2 class pictures", "fine-tuning"]
    assert "fine-tuning: 2 of 2" in lines
    size = out.stat().st_size / 1e6
    assert lines[-1] == f"wrote {out}: {size:.1f} MB, 32 modules at rank 2, after 2 steps"
    keys = tensors(out)
    assert len(keys) == 2 * (28 + 4)
    assert sum(key.startswith("text_encoder.") for key in keys) == 8
    # The next LoRA on this base finds the class pictures, and is the same.
    again = tmp_path / "again.safetensors"
    words = ("finetune", photos, "-o", again, "--base", base, "--name", "qwxz", *SMALL)
    assert "class pictures" not in run(*words)[2]
    assert again.read_bytes() == out.read_bytes()
    # The trigger is a secret of whoever made the file.
    assert b"qwxz" not in out.read_bytes()
    assert [file.name for file in tmp_path.iterdir() if "tmp" in file.name or "partial" in file.name] == []


def test_equal_options_give_equal_files_and_every_option_counts(run, base, photos, tmp_path) -> None:
    def make(*words: object) -> bytes:
        out = tmp_path / "x.safetensors"
        code, _, stderr = run("finetune", photos, "-o", out, "--base", base, "--force", *SMALL, *words)
        assert code == 0, stderr
        return out.read_bytes()

    plain = make("--name", "abcd")
    assert make("--name", "abcd") == plain
    for words in (
        ("--name", "abce"),
        ("--prompt", "abcd"),
        ("--name", "abcd", "--class-prompt", "a face"),
        ("--name", "abcd", "--no-prior"),
        ("--name", "abcd", "--class-images", 1),
        ("--name", "abcd", "--no-text-encoder"),
        ("--name", "abcd", "--target", "to_k"),
        ("--name", "abcd", "--rank", 3),
        ("--name", "abcd", "--alpha", 5),
        ("--name", "abcd", "--text-alpha", 5),
        ("--name", "abcd", "--lr", 0.1),
        ("--name", "abcd", "--text-lr", 0.1),
        ("--name", "abcd", "--steps", 1),
        ("--name", "abcd", "--batch", 2),
        ("--name", "abcd", "--seed", 4),
    ):
        assert make(*words) != plain, words
    assert make("--prompt", "A face of abcd.") == plain


def test_a_name_that_is_not_given_is_random(run, base, photos, tmp_path) -> None:
    names = set()
    for number, more in enumerate(((), ("--quiet",))):
        out = tmp_path / f"{number}.safetensors"
        code, _, stderr = run("finetune", photos, "-o", out, "--base", base, *SMALL, *more)
        assert code == 0
        names.add(
            next(line for line in stderr.splitlines() if line.startswith("instance prompt: A face of "))
        )
    assert len(names) == 2
    # The name stands nowhere else, so --quiet leaves that line; a name that was given is chatter.
    assert len(stderr.splitlines()) == 1
    for given in (("--name", "qwxz"), ("--prompt", "qwxz")):
        out = tmp_path / f"{given[0]}.safetensors"
        assert run("finetune", photos, "-o", out, "--base", base, *SMALL, "-q", *given) == (0, "", "")


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_the_layouts_hold_the_same_numbers(layout, run, base, photos, tmp_path) -> None:
    from safetensors.numpy import load_file

    plain, other = tmp_path / "plain.safetensors", tmp_path / "other"
    for out, name in ((plain, "diffusers"), (other, layout)):
        words = ("finetune", photos / "0.png", "-o", out, "--base", base, "--name", "q", "--layout", name)
        assert run(*words, *SMALL)[0] == 0
    files = sorted(other.rglob("*.safetensors")) if layout == "peft" else [other]
    assert len(files) == (2 if layout == "peft" else 1)
    found = [v for file in files for k, v in load_file(file).items() if not k.endswith(".alpha")]

    def sums(arrays):
        return sorted(float(np.abs(array).astype(np.float64).sum()) for array in arrays)

    np.testing.assert_allclose(sums(found), sums(load_file(plain).values()), rtol=1e-6)
    code, _, stderr = run(*words, *SMALL)
    assert code == 2 and "exists already" in stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"-o": "taken.safetensors"}, "taken.safetensors exists already"),
        ({"-o": "nowhere/x.safetensors"}, "there is no folder for"),
        ({"-o": "photos"}, "is a folder"),
        ({"images": "nothing.png"}, "there is no image nothing.png"),
        ({"images": "taken.safetensors"}, "taken.safetensors is not an image"),
        ({"images": "empty"}, "there are no images"),
        ({"--base": "elsewhere"}, "no base is called 'elsewhere'"),
        ({"--lr": "0"}, "learning rate"),
        ({"--rank": "0"}, "rank"),
        ({"--target": "to_x"}, "no module called to_x"),
    ],
)
def test_finetune_refuses(change, message, run, base, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.safetensors").write_bytes(b"mine")
    Path("empty").mkdir()
    words = {
        "-o": "x.safetensors",
        "--base": base,
        "images": str(photos),
        "--name": "q",
        "--no-text-encoder": "",
    }
    words |= change
    listed = [words.pop("images"), *(word for pair in words.items() for word in pair if word)]
    code, stdout, stderr = run("finetune", *SMALL, *listed)
    assert (code, stdout) == (2, "")
    line, hint = stderr.splitlines()[-2:]
    assert line.startswith("loraudit: error: ") and message in line and hint.startswith("  ")
    assert "Traceback" not in stderr
    assert Path("taken.safetensors").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "empty", "taken.safetensors"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("finetune", "PHOTOS", "-o", "x", "--base", "sdxl"), "no base is called 'sdxl'"),
        (("finetune", "PHOTOS", "-o", "x", "--target", "to_zz"), "no module called to_zz"),
        (("finetune", "PHOTOS", "-o", "x", "--base", "sd15", "--target", "to_zz"), "no module called to_zz"),
        (
            ("finetune", "PHOTOS", "-o", "x", "--target", "to_q", "--target", "to_zz"),
            "no module called to_zz",
        ),
        (("finetune", "PHOTOS", "-o", "x", "--base", "BASE", "--target", "to_zz"), "no module called to_zz"),
        (("finetune", "PHOTOS", "-o", "none/x"), "there is no folder for none/x"),
        (("train-encoder", "-o", "x", "--base", "sdxl"), "no base is called 'sdxl'"),
    ],
)
def test_a_bad_argument_costs_no_loading(words, message, base, photos, tmp_path) -> None:
    """Neither torch nor diffusers is loaded, so no base is."""
    places = {"PHOTOS": str(photos), "BASE": base}
    done = loraudit_process(tmp_path, *(places.get(word, word) for word in words))
    assert (done.returncode, done.stdout) == (2, "LOADED\n")
    (line, hint) = done.stderr.splitlines()
    assert line.startswith("loraudit: error: ") and message in line and hint.startswith("  ")


def test_a_module_of_the_base_is_named_by_any_end(base) -> None:
    """The check refuses nothing that the base has: every end of every module's name passes."""
    sites = [site for site in tiny_base().modules() if site.startswith("unet.") and site.endswith("proj_in")]
    assert sites
    check_targets(base, [".".join(sites[0].split(".")[start:]) for start in range(1, 6)])
    check_targets("tiny", [*TARGETS["locon"], *TARGETS["custom"]])
    for targets in (["to_"], ["o_q"], ["", "to_q"], ["unet"]):
        with pytest.raises(LorauditError, match="no module called"):
            check_targets("tiny", targets)


@pytest.mark.parametrize(
    "words",
    [
        ("attacks", "--zoo", "zoo", "--out", "out", "--encoder", "nope"),
        ("attacks", "--zoo", "zoo", "--out", "out", "--paper", "nope"),
        ("verdict", "--leaking", "zoo", "--harmless", "zoo", "--out", "out", "--encoder", "nope"),
    ],
)
def test_an_encoder_that_is_none_is_refused_before_the_base_is_loaded(
    words, run, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("attacks", "verdict"):
        monkeypatch.delattr(f"loraudit.bench.{module}.load_base")
    code, stdout, stderr = run("bench", *words)
    assert (code, stdout) == (2, "") and "nope" in stderr.splitlines()[-2]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_finetune_leaves_nothing(run, base, photos, tmp_path, monkeypatch) -> None:
    def interrupted(*arguments):
        yield next(finetune(*arguments))
        raise KeyboardInterrupt

    finetune = finetune_job.finetune
    monkeypatch.setattr(finetune_job, "finetune", interrupted)
    out = tmp_path / "x.safetensors"
    code, _, stderr = run("finetune", photos, "-o", out, "--base", base, *SMALL)
    assert code == 130 and stderr.splitlines()[-1] == "loraudit: error: interrupted"
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def check_encoder(folder: Path, timestep: bool = True) -> dict[str, object]:
    model, checkpoint = load_encoder(folder, frozen_transformer(tiny_base().text_encoder), LENGTH)
    assert (model.step is not None) is timestep
    assert not (folder / "checkpoint.pt").exists()
    assert (folder / "CARD.md").read_text().startswith(f"# {folder.name}\n")
    return dict(checkpoint.training)


def test_train_encoder_on_a_zoo(run, base, tmp_path) -> None:
    zoo, out = tmp_path / "zoo", tmp_path / "enc"
    code, stdout, stderr = run("train-encoder", "--zoo", zoo, "--output", out, "--base", base, *TRAIN)
    assert (code, stdout) == (0, ""), stderr
    assert "building the zoo: 2 of 2" in stderr
    stages = [line.partition(":")[0] for line in stderr.splitlines() if re.search(r": \d+ of \d+$", line)]
    assert list(dict.fromkeys(stages)) == [
        "sampling 64 class pictures",
        "building the zoo",
        "training the encoder",
    ]
    assert stderr.splitlines()[-2:] == [
        "training the encoder: 4 of 4",
        f"the encoder, its card and its record are in {out}",
    ]
    training = check_encoder(out)
    assert (training["source"], training["people"], training["data"]) == ("zoo", 3, "synthetic")
    assert open_zoo(zoo).plan.snapshots == (1, 2)

    # The finished one is kept; with the zoo that is there the other variants need no fine-tuning.
    code, _, stderr = run("train-encoder", "--zoo", zoo, "--out", out, "--base", base, *TRAIN)
    assert code == 2 and "enc holds a trained encoder already" in stderr
    words = ("--zoo", zoo, "--base", base, "--steps", 2, "--loras", 2)
    code, _, stderr = run("train-encoder", *words, "--out", tmp_path / "plain", "--no-timestep")
    assert code == 0 and "building" not in stderr
    check_encoder(tmp_path / "plain", timestep=False)
    code, _, _ = run("train-encoder", *words, "--out", tmp_path / "constant", "--constant")
    assert code == 0 and np.load(tmp_path / "constant" / "embedding.npy").shape == (LENGTH, WIDTH)
    for change in (("--people", 4), ("--lora-steps", 3), ("--lora-rank", 4), ("--snapshot", 2)):
        code, _, stderr = run("train-encoder", *words, "--out", tmp_path / "other", *change)
        assert code == 2 and "the zoo zoo has " in stderr
    assert not (tmp_path / "other").exists()


def test_train_encoder_while_fine_tuning(run, base, tmp_path) -> None:
    code, _, stderr = run("train-encoder", "--out", tmp_path / "enc", "--base", base, *TRAIN)
    assert code == 0, stderr
    assert check_encoder(tmp_path / "enc")["source"] == "live"


def test_train_encoder_on_folders(run, base, tmp_path) -> None:
    for who in range(12):
        folder = tmp_path / "faces" / f"p{who}"
        folder.mkdir(parents=True)
        Image.fromarray(picture(who, 0)).save(folder / "a.png")
    data = f"folders:{tmp_path / 'faces'}"
    words = ("--data", data, "--base", base, "--zoo", tmp_path / "zoo", *TRAIN)
    code, _, stderr = run("train-encoder", "--out", tmp_path / "enc", *words)
    assert code == 0, stderr
    assert str(tmp_path) not in (tmp_path / "enc" / "CARD.md").read_text()
    # The zoo does not say whom it is made of by a path, and does not pass for another data set.
    assert str(tmp_path) not in (tmp_path / "zoo" / "zoo.json").read_text()
    code, _, stderr = run("train-encoder", "--zoo", tmp_path / "zoo", "--out", tmp_path / "b", "--base", base)
    assert code == 2 and "other people" in stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "ffhq"), "'ffhq' is no data set"),
        (("--data", "folders:nothing"), "no folder nothing"),
        (("--steps", "0"), "steps must be 1 or more"),
        (("--base", "elsewhere"), "no base is called"),
        (("--people", "99999"), "families of synthetic people"),
        (("--arch", "probe"), "trained on a zoo"),
        (("--lora-rank", "0"), "rank"),
        (("--lr", "nan"), "learning rate"),
    ],
)
def test_train_encoder_refuses(words, message, run, base, tmp_path, monkeypatch) -> None:
    """All of it before the base is loaded."""
    monkeypatch.delattr("loraudit.training.encoder_job.training_base")
    code, stdout, stderr = run("train-encoder", "--out", tmp_path / "x", "--base", base, *words)
    assert (code, stdout) == (2, "")
    assert message in stderr.splitlines()[-2] and "Traceback" not in stderr
    assert not (tmp_path / "x").exists()


def test_ctrl_c_in_training_goes_on_where_it_stopped(run, base, tmp_path) -> None:
    """A real interrupt between two checkpoints; the weights end as those of an undisturbed training."""
    zoo = tmp_path / "zoo"
    words = ["--base", base, "--zoo", str(zoo), *map(str, TRAIN), "--steps", "40"]
    assert run("train-encoder", "--out", tmp_path / "whole", *words)[0] == 0
    out = tmp_path / "parts"
    command = [sys.executable, "-m", "loraudit", "train-encoder", "--out", str(out), *words]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    for _attempt in range(3):  # a starved test may send its signal only when the training is done
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        deadline = time.monotonic() + 120
        while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
        if process.returncode != 0:
            break
        shutil.rmtree(out)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-2:] == [
        "loraudit: error: interrupted",
        "  the same command goes on where this one stopped",
    ]
    assert not (out / "config.json").exists() and not list(out.glob("*.tmp"))
    assert run("train-encoder", "--out", out, *words)[0] == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [20, 40]


def test_no_zoo_is_built_in_a_folder_of_other_things(run, base, tmp_path, monkeypatch) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    for folder in (full, empty):
        folder.mkdir()
    (full / "mine.txt").write_text("mine")
    words = ("--base", base, *TRAIN)
    code, stdout, stderr = run("train-encoder", "--zoo", full, "--out", tmp_path / "a", *words)
    assert (code, stdout) == (2, "") and "full holds other files and no zoo" in stderr
    assert [path.name for path in full.iterdir()] == ["mine.txt"] and not (tmp_path / "a").exists()
    monkeypatch.setattr("loraudit.training.people_a_pass.free_memory", lambda _device: 0)
    assert run("train-encoder", "--zoo", empty, "--out", tmp_path / "b", *words)[0] == 0
    assert open_zoo(empty).plan.snapshots == (1, 2)
    assert open_zoo(empty).plan.people_per_pass == 1, "as many as fit into memory"


def test_an_output_that_cannot_be_is_said_before_the_zoo_is_built(run, base, tmp_path) -> None:
    (tmp_path / "file").touch()
    words = ("--base", base, "--zoo", tmp_path / "zoo", *TRAIN)
    code, stdout, stderr = run("train-encoder", *words, "--out", tmp_path / "file" / "encoder")
    assert (code, stdout) == (2, "")
    assert "error: cannot write" in stderr and len(stderr.splitlines()) == 2
    assert not (tmp_path / "zoo").exists()
