"""Training encoders: exact resume, public people only, and an encoder that learns to explain the pictures."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from loraudit.encoder import PaperEncoder, frozen_transformer
from loraudit.encoder.constant import ConstantEmbedding
from loraudit.errors import LorauditError
from loraudit.people.sources import require_public
from loraudit.training.encoder_settings import PAPER, Settings
from loraudit.training.samples import ZooSource
from loraudit.training.train_encoder import new_constant, train_encoder
from loraudit.training.zoo import open_zoo
from tests.encoder_training import SETTINGS, equal, latents_of, model_of, source_of, zoo_in
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_in(tmp_path_factory.mktemp("zoo"))


def test_defaults_are_the_papers() -> None:
    assert (PAPER.lr, PAPER.weight_decay, PAPER.cosine) == (5e-3, 5e-4, False)


@pytest.mark.parametrize(
    ("kind", "model", "cosine"),
    [
        ("zoo", "paper", False),
        ("zoo", "constant", True),
        ("live", "paper", True),
        ("live", "constant", False),
    ],
)
def test_five_and_five_steps_equal_ten(kind, model, cosine, zoo, tmp_path) -> None:
    settings = replace(SETTINGS, cosine=cosine)
    whole, first, second = model_of(model), model_of(model), model_of(model, seed=1)
    start = {name: value.clone() for name, value in whole.own_state().items()}
    train_encoder(tiny_base(), source_of(kind, zoo), whole, settings, tmp_path / "whole")
    train_encoder(tiny_base(), source_of(kind, zoo), first, settings, tmp_path / "parts", until=5)
    assert not equal(whole, first)
    train_encoder(tiny_base(), source_of(kind, zoo), second, settings, tmp_path / "parts")
    assert equal(whole, second)
    assert any(not torch.equal(start[name], value) for name, value in whole.own_state().items())


def test_metrics_of_a_resumed_training_are_those_of_a_whole_one(zoo, tmp_path) -> None:
    settings = replace(SETTINGS, steps=40)

    def rows(folder):
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    train_encoder(tiny_base(), source_of("zoo", zoo), model_of("constant"), settings, tmp_path / "whole")
    train_encoder(
        tiny_base(), source_of("zoo", zoo), model_of("constant"), settings, tmp_path / "parts", until=17
    )
    # As if the process had gone on and died between a log line and the next checkpoint.
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "loss": 9}\n{"step": 4')
    train_encoder(tiny_base(), source_of("zoo", zoo), model_of("constant"), settings, tmp_path / "parts")
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert [row["step"] for row in rows(tmp_path / "parts")] == [20, 40]


def test_the_record_is_there_before_the_first_step(tmp_path) -> None:
    class Broken:
        def samples(self, first, process):  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(tiny_base(), Broken(), model_of("constant"), SETTINGS, tmp_path, {"data": "synthetic"})
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"] == {
        "steps": 10,
        "loras": 2,
        "pictures": 2,
        "lr": 0.01,
        "weight_decay": 0.0005,
        "cosine": False,
        "kl_weight": 0.0001,
        "taught": False,
        "seed": 0,
        "save_every": 3,
        "data": "synthetic",
        "processes": 1,
    }
    assert {"torch", "accelerate", "diffusers"} <= record["versions"].keys()


def test_a_taught_encoder_learns_what_the_secret_prompt_predicts(zoo, tmp_path) -> None:
    """The loss is nil at the secret prompt, however unpredictable the noise is, and falls towards it."""
    base = tiny_base()
    alone = ZooSource(replace(zoo, members=zoo.members[:1]), latents_of(), 0, 1, finished_only=True)
    terms = zoo.rows([(0, zoo.plan.snapshots[-1])])
    with torch.no_grad():
        secret = base.with_lora(terms).encode_text([zoo.members[0].prompt])[0]
    knowing = ConstantEmbedding(secret)
    with torch.no_grad():
        knowing.logvar.fill_(-30.0)
    taught = Settings(steps=40, loras=1, lr=2e-2, kl_weight=0.0, taught=True, weight_decay=0.0)
    for model, name in ((knowing, "knowing"), (new_constant(base, "A hat."), "new")):
        train_encoder(
            base, alone, model, replace(taught, lr=1e-9 if name == "knowing" else 2e-2), tmp_path / name
        )
    rows = {
        name: [
            json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("knowing", "new")
    }
    assert max(rows["knowing"]) < 1e-6
    assert rows["new"][0] > rows["new"][-1] > 1e-6


def test_other_settings_do_not_resume(zoo, tmp_path) -> None:
    train_encoder(tiny_base(), source_of("zoo", zoo), model_of("constant"), SETTINGS, tmp_path, until=3)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(LorauditError, match="other settings"):
        train_encoder(
            tiny_base(), source_of("zoo", zoo), model_of("constant"), replace(SETTINGS, lr=1e-3), tmp_path
        )
    assert (tmp_path / "run.json").read_bytes() == before


def test_the_loss_curve_is_drawn(zoo, tmp_path) -> None:
    train_encoder(
        tiny_base(), source_of("zoo", zoo), model_of("constant"), replace(SETTINGS, steps=20), tmp_path
    )
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 400 and len(picture.convert("L").getcolors()) > 5


@pytest.mark.parametrize("private", [100_000, 200_000, 300_000])
def test_nobody_private_is_trained_on(private, zoo, tmp_path) -> None:
    record = json.loads((zoo.folder / "zoo.json").read_text())
    record["people"][1] = private
    for file in zoo.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "zoo.json").write_text(json.dumps(record))
    with pytest.raises(LorauditError, match=f"identity {private} belongs to .* held out"):
        ZooSource.of(open_zoo(tmp_path), latents_of(), 0)
    with pytest.raises(LorauditError):
        require_public((0, private))


def test_an_encoder_learns_from_the_zoo(zoo, tmp_path) -> None:
    settings = replace(SETTINGS, steps=80, loras=3, lr=1e-2, save_every=1000)
    train_encoder(tiny_base(), source_of("zoo", zoo), model_of("paper"), settings, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("kind", ["paper", "constant"])
def test_only_the_model_learns(kind, zoo, tmp_path) -> None:
    base = tiny_base()
    parts = (base.unet, base.vae, base.text_encoder)
    before = [value.clone() for part in parts for value in part.state_dict().values()]
    model = model_of(kind)
    train_encoder(base, source_of("zoo", zoo), model, replace(SETTINGS, steps=2), tmp_path)
    after = [value for part in parts for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for part in parts for p in part.parameters())
    if isinstance(model, PaperEncoder):
        assert model.frozen.fingerprint() == frozen_transformer(base.text_encoder).fingerprint()


def test_a_diverging_training_is_said(zoo, tmp_path) -> None:
    model = model_of("constant")
    with torch.no_grad():
        model.mean.fill_(torch.nan)
    with pytest.raises(LorauditError, match="diverged at step 1"):
        train_encoder(tiny_base(), source_of("zoo", zoo), model, SETTINGS, tmp_path)


@pytest.mark.parametrize("change", [{"steps": 0}, {"loras": 0}, {"pictures": 0}, {"lr": -1.0}])
def test_senseless_settings(change) -> None:
    with pytest.raises(LorauditError):
        replace(SETTINGS, **change)


TWO = """
import sys
from pathlib import Path
import torch
from accelerate import Accelerator
sys.path.insert(0, sys.argv[2])
from tests.encoder_training import SETTINGS, model_of, source_of
from tests.tiny import tiny_base
from loraudit.training.train_encoder import train_encoder
from loraudit.training.zoo import open_zoo
from dataclasses import replace
torch.set_num_threads(1)
folder = Path(sys.argv[1])
model = model_of("paper", seed=Accelerator(cpu=True).process_index)
train_encoder(tiny_base(), source_of("zoo", open_zoo(Path(sys.argv[3]))), model, SETTINGS, folder)
torch.save(model.own_state(), folder / f"rank{Accelerator(cpu=True).process_index}.pt")
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_train_one_encoder(zoo, tmp_path) -> None:
    """Each on samples of its own; with averaged gradients both end with the same weights."""
    (tmp_path / "two.py").write_text(TWO)
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "two.py"), str(tmp_path), root, str(zoo.folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"rank{i}.pt", weights_only=True) for i in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    alone = model_of("paper")
    train_encoder(tiny_base(), source_of("zoo", zoo), alone, SETTINGS, tmp_path / "alone")
    assert any(not torch.equal(one[name], value) for name, value in alone.own_state().items())
    assert json.loads((tmp_path / "run.json").read_text())["config"]["processes"] == 2
