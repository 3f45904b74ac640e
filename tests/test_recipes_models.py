"""The trainings of the embedded models run, write what they should, and go on exactly where they stopped."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file

from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.scores.face import load_tiny_face
from models.recipes import face as tiny_face
from models.recipes import sd as tiny_sd
from models.recipes import vae as tiny_vae
from models.recipes.clip_model import new_clip, save_clip
from models.recipes.dataset import draw_dataset
from models.recipes.face_model import save_tiny_face
from models.recipes.muon import Muon, orthogonalise

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    draw_dataset(folder, 0, identities=6, pictures=8, workers=1)
    return folder


def _weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint / "checkpoint.pt", weights_only=True)["model"]


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_vae_resumes_and_learns(data: Path, tmp_path: Path) -> None:
    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        tiny_vae.train(data, tmp_path / "vae", tmp_path / folder, 1e9, 4, 1e-3, 0, max_steps=steps)
        return _weights(tmp_path / folder)

    whole = run("whole", 4)
    half = run("parts", 2)
    assert not _same(half, whole)
    assert _same(run("parts", 4), whole)
    assert AutoencoderKL.from_pretrained(tmp_path / "vae").config.scaling_factor > 0


def test_the_face_model_is_trained_calibrated_and_saved(data: Path, tmp_path: Path, monkeypatch) -> None:
    calibrate = tiny_face.calibrate
    monkeypatch.setattr(tiny_face, "calibrate", lambda *words: calibrate(*words, people=60))
    tiny_face.train(data, tmp_path / "face", tmp_path / "run", 1e9, 8, 1e-3, 0, max_steps=2)
    model = load_tiny_face(tmp_path / "face")
    assert -1 < model.threshold <= 1 and model.far == 1e-3
    tiny_face.refit(tmp_path / "face", 0)
    files = [tmp_path / "face" / name for name in ("config.json", "model.safetensors")]
    fitted = [file.read_bytes() for file in files]
    model.network.gate.weight.data.zero_()
    save_tiny_face(model.network, model.config, tmp_path / "face")
    assert [file.read_bytes() for file in files] != fitted
    tiny_face.refit(tmp_path / "face", 0)
    assert [file.read_bytes() for file in files] == fitted


def test_the_base_is_trained_into_a_pipeline_folder(data: Path, tmp_path: Path) -> None:
    from loraudit.people.captions import WORDS
    from models.recipes.clip_model import export_text_tower
    from models.recipes.tokenizer import load_tokenizer, write_tokenizer

    clip = tmp_path / "clip"
    write_tokenizer(WORDS, clip)
    save_clip(new_clip(len(load_tokenizer(clip))), clip)
    sd = tmp_path / "sd"
    export_text_tower(clip, sd)
    tiny_vae.train(data, sd / "vae", tmp_path / "vae-run", 1e9, 4, 1e-3, 0, max_steps=1)

    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        mine = (
            tmp_path / f"{folder}-sd"
        )  # the finished folder holds the VAE in float16, the fresh one in float32
        if not mine.exists():
            shutil.copytree(sd, mine)
        tiny_sd.train(data, mine, tmp_path / folder, 1e9, 8, 1e-3, 0, max_steps=steps)
        return _weights(tmp_path / folder)

    whole = run("whole", 2)
    run("parts", 1)
    assert _same(run("parts", 2), whole)
    base = load_base(str(tmp_path / "whole-sd"))
    assert base.sample(base.encode_text(["a"]), [0], Sampling(2, 1.0)).shape == (1, 3, 64, 64)
    stock = StableDiffusionPipeline.from_pretrained(tmp_path / "whole-sd")
    assert {stock.unet.dtype, stock.vae.dtype, stock.text_encoder.dtype} == {torch.float32}
    stored = load_file(tmp_path / "whole-sd" / "text_encoder" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_orthogonalise_evens_singular_values_out() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 40, generator=generator) * torch.logspace(0, -2, 12)[:, None]
    before, after = (torch.linalg.svdvals(x) for x in (matrix, orthogonalise(matrix)))
    assert before.max() / before.min() > 50
    assert after.max() / after.min() < 3
    assert torch.allclose(orthogonalise(matrix.T), orthogonalise(matrix).T, atol=1e-4)


def test_muon_lowers_a_loss() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 10), torch.randn(64, 3)
    weight = torch.nn.Parameter(torch.zeros(3, 10))
    optimizer = Muon([weight], lr=0.02)
    losses = []
    for _ in range(50):
        loss = (x @ weight.T - y).pow(2).mean()
        weight.grad = None
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
