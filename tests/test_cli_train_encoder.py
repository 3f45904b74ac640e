"""`loraudit train-encoder` as a user meets it: zoos and encoders, streams and exit codes."""

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

from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.people.portrait import picture
from loraudit.training.zoo import open_zoo
from tests.jobs import ROOT, TRAIN, _kept, base, run
from tests.tiny import LENGTH, WIDTH, tiny_base

__all__ = ["_kept", "base", "run"]


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
