"""Training encoders: exact resume, public people only, and an encoder that learns to explain the pictures."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from loraudit.encoder import PaperEncoder, frozen_transformer, load_encoder
from loraudit.encoder.constant import ConstantEmbedding
from loraudit.errors import LorauditError
from loraudit.training.encoder_card import finish, shown_command
from loraudit.training.finetune import Recipe, Subject
from loraudit.training.samples import LiveSource, ZooSource
from loraudit.training.train_encoder import (
    PAPER,
    Settings,
    new_constant,
    new_encoder,
    require_public,
    train_encoder,
)
from loraudit.training.zoo import Plan, build_zoo, open_zoo
from tests.tiny import LENGTH, WIDTH, tiny_base

RECIPE = Recipe(rank=2, lr=2e-2, steps=4, class_images=2)
SETTINGS = Settings(steps=10, loras=2, lr=1e-2, save_every=3)


def prior() -> torch.Tensor:
    return torch.randn(4, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    plan = Plan((0, 4, 8), RECIPE, (2, 4), people_per_pass=2)
    return build_zoo(tiny_base(), tmp_path_factory.mktemp("zoo"), plan, prior())


def subjects() -> list[Subject]:
    shape = (3, *tiny_base().latent_shape)
    return [
        Subject(torch.randn(shape, generator=torch.Generator().manual_seed(i)), f"A face of p{i}.", i)
        for i in range(3)
    ]


def source_of(kind: str, zoo, seed: int = 0, finished_only: bool = False):
    if kind == "zoo":
        return ZooSource.of(tiny_base(), zoo, seed, 2, finished_only)
    return LiveSource(tiny_base(), subjects(), RECIPE, prior(), 2, seed, finished_only)


def model_of(kind: str, seed: int = 0, timestep: bool = True):
    if kind == "constant":
        return new_constant(tiny_base(), "A human face.")
    terms = {
        site: (torch.zeros(1, *site_shape[:1], 2), torch.zeros(1, 2, site_shape[1]))
        for site, site_shape in (
            (s, m.weight.shape) for s, m in tiny_base().modules().items() if s.endswith(("to_q", "to_v"))
        )
    }
    return new_encoder(tiny_base(), terms, timestep, RECIPE.steps, seed)


def equal(one, two) -> bool:
    a, b = one.own_state(), two.own_state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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
    alone = ZooSource(zoo, source_of("zoo", zoo).latents[:1], 0, 1, finished_only=True)
    alone = replace(alone, zoo=replace(zoo, members=zoo.members[:1]))
    terms = zoo.rows([(0, zoo.plan.snapshots[-1])])
    with torch.no_grad(), base.tuned({k: v for k, v in terms.items() if k.startswith("text")}):
        secret = base.encode_text([zoo.members[0].prompt])[0]
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
        ZooSource.of(tiny_base(), open_zoo(tmp_path), 0)
    with pytest.raises(LorauditError):
        require_public((0, private))


def test_a_zoo_of_another_base_is_refused(zoo) -> None:
    with pytest.raises(LorauditError, match="another base"):
        ZooSource.of(tiny_base(), replace(zoo, base="0" * 64), 0)


def test_zoo_samples_mix_people_and_snapshots(zoo) -> None:
    source = ZooSource.of(tiny_base(), zoo, 0, 3)
    seen = list(islice(source.samples(0, 0), 12))
    assert {int(step) for sample in seen for step in sample.steps} == {2, 4}
    assert any(len(set(sample.steps.tolist())) == 2 for sample in seen)
    for index, sample in enumerate(seen[:4]):
        assert {site.partition(".")[0] for site in sample.terms} == {"unet", "text_encoder"}
        for row in range(3):
            terms = zoo.rows([(row, int(sample.steps[row]))])
            assert all(torch.equal(terms[site][0][0], up[row]) for site, (up, _) in sample.terms.items())
        # A stream that starts in the middle goes on with the same samples; another process has its own.
        again = next(source.samples(index, 0))
        assert torch.equal(again.steps, sample.steps)
    assert any(not torch.equal(a.steps, b.steps) for a, b in zip(seen, source.samples(0, 1), strict=False))
    finished = ZooSource.of(tiny_base(), zoo, 0, 3, finished_only=True)
    assert all((sample.steps == 4).all() for sample in islice(finished.samples(0, 0), 8))


def test_live_samples_follow_the_algorithm() -> None:
    """Groups of people, s' steps uniform in 1..S, every step of them a sample."""
    seen = list(islice(source_of("live", None).samples(0, 0), 40))
    steps = [int(sample.steps[0]) for sample in seen]
    assert all(torch.equal(sample.steps, sample.steps[:1].expand(2)) for sample in seen)
    runs = [before for before, after in pairwise(steps) if after == 1]
    assert set(runs) == {1, 2, 3, 4}  # where groups end
    assert all(after in (1, before + 1) for before, after in pairwise(steps))
    # The same LoRA at the next step: what the fine-tuning itself makes of it.
    site = next(iter(seen[0].terms))
    first = seen.index(next(s for s, nxt in pairwise(seen) if nxt.steps[0] == 2))
    assert not torch.equal(seen[first].terms[site][0], seen[first + 1].terms[site][0])
    for index in (3, 17):
        again = next(source_of("live", None).samples(index, 0))
        assert torch.equal(again.terms[site][0], seen[index].terms[site][0])
    finished = islice(source_of("live", None, finished_only=True).samples(0, 0), 3)
    assert [int(sample.steps[0]) for sample in finished] == [4, 4, 4]


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


def test_what_is_left_is_an_encoder_with_a_card(zoo, tmp_path) -> None:
    folder = tmp_path / "enc"
    model = model_of("paper", timestep=False)
    train_encoder(tiny_base(), source_of("zoo", zoo), model, replace(SETTINGS, steps=20), folder)
    about = {"steps": 20, "recipe": {"rank": 2, "unet_targets": ["to_q", "to_v"]}}
    finish(
        folder,
        model,
        model.frozen,
        "random",
        about,
        ["train-encoder", "--zoo", "/home/me/zoo", "--out=/x/enc"],
    )
    loaded, checkpoint = load_encoder(folder, frozen_transformer(tiny_base().text_encoder), LENGTH)
    assert equal(loaded, model) and not loaded.training
    assert checkpoint.training == about and checkpoint.config.timestep is False
    card = (folder / "CARD.md").read_text()
    assert "`loraudit train-encoder --zoo zoo --out=enc`" in card
    assert "rank 2, unet targets to_q to_v" in card and "**Limits.**" in card and "(ablation)" in card
    assert "/home" not in card and "/x" not in card
    assert {file.name for file in folder.iterdir()} == {
        "CARD.md", "config.json", "loss.png", "metrics.jsonl", "model.safetensors", "run.json",
    }  # fmt: skip


def test_the_constant_leaves_its_embedding(zoo, tmp_path) -> None:
    import numpy as np

    model = model_of("constant")
    train_encoder(tiny_base(), source_of("zoo", zoo), model, replace(SETTINGS, steps=2), tmp_path)
    finish(tmp_path, model, frozen_transformer(tiny_base().text_encoder), "random", {}, [])
    saved = np.load(tmp_path / "embedding.npy")
    assert saved.shape == (LENGTH, WIDTH) and (saved == model.mean.detach().numpy()).all()
    assert "reading any" in (tmp_path / "CARD.md").read_text()


def test_a_card_shows_no_folder_of_this_machine() -> None:
    words = ["--data", "folders:/home/me/faces", "--zoo", "/x/y/zoo", "--out", "models/enc", "--lr", "1e-3"]
    assert shown_command(words) == "--data folders:faces --zoo zoo --out models/enc --lr 1e-3"


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
from tests.test_training_train_encoder import SETTINGS, model_of, source_of
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
