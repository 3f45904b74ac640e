"""The embedded models as they ship: stock libraries load them, and they are worth what their cards say."""

import json
import re

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from loraudit.audit.request import Request
from loraudit.audit.scan import scan
from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.cards import models_dir
from loraudit.findings.finding import Severity
from loraudit.lora import Factors, load_lora, write_diffusers
from loraudit.people.captions import full_caption
from loraudit.people.identity import SPLITS, identity
from loraudit.people.sources import portraits
from loraudit.scores.face import load_tiny_face
from models.recipes.face import private_cosines, verification
from models.recipes.photos import draw_photos


def card(name: str) -> str:
    return (models_dir() / name / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_stock_diffusers_loads_and_samples_what_we_sample() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(models_dir() / "tiny-sd", torch_dtype=torch.float32)
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    pipeline.set_progress_bar_config(disable=True)
    base, settings = load_base("tiny"), Sampling(steps=6, guidance=3.0)
    prompt = full_caption(identity(SPLITS["private"][0]))
    start = torch.randn(base.latent_shape, generator=torch.Generator().manual_seed(11))[None]
    stock = pipeline(
        prompt,
        negative_prompt=settings.negative,
        latents=start,
        guidance_scale=settings.guidance,
        num_inference_steps=settings.steps,
        output_type="np",
    ).images
    with torch.no_grad():
        ours = base.sample(base.encode_text([prompt]), [11], settings)
        other = base.sample(base.encode_text([prompt]), [12], settings)
    ours, other = (x.permute(0, 2, 3, 1).numpy() for x in (ours, other))
    np.testing.assert_allclose(ours, stock, atol=1e-3)
    assert np.abs(other - stock).mean() > 0.02


@pytest.mark.filterwarnings("ignore")
def test_the_card_loads_the_pipeline_as_it_says(monkeypatch) -> None:
    """The very call of the card, which names no dtype; what it loads is what loraudit loads, to the bit."""
    (call,) = re.findall(r"`(StableDiffusionPipeline\.from_pretrained\([^`]*)`", card("tiny-sd"))
    monkeypatch.chdir(models_dir().parent)
    pipeline = eval(call, {"StableDiffusionPipeline": StableDiffusionPipeline})  # noqa: S307
    pipeline.set_progress_bar_config(disable=True)
    base = load_base("tiny")
    for part in ("unet", "vae", "text_encoder"):
        ours, stock = (getattr(owner, part).state_dict() for owner in (base, pipeline))
        assert ours.keys() == stock.keys()
        assert all(torch.equal(value, stock[name]) for name, value in ours.items())
    pictures = pipeline(["A human face."] * 2, num_inference_steps=2, output_type="np").images
    assert pictures.shape == (2, 64, 64, 3) and pictures.std() > 0.01


def test_the_face_model_tells_held_out_people_apart() -> None:
    """Fewer people than in its card, so a looser bound; a blind model gets 0.001."""
    folder = models_dir() / "tiny-face"
    rates = verification(folder, private_cosines(folder, people=60, count=3), 60)
    assert rates["true_accept"] >= 0.95
    assert rates["false_accept"] <= 0.01


def test_text_steers_the_base() -> None:
    """Trap of a base whose text is ignored: another caption must change the noise prediction."""
    base = load_base("tiny")
    prompts = [full_caption(identity(SPLITS["private"][8 * i])) for i in range(8)]
    latents = base.encode_images(torch.cat([portraits(SPLITS["private"][8 * i], count=1) for i in range(8)]))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((8,), 700)
    with torch.no_grad():
        embedding = base.encode_text(prompts)
        noised = base.noised(latents, noise, t)
        own = base.epsilon(noised, t, embedding)
        others = base.epsilon(noised, t, embedding.roll(1, 0))
    right, wrong = (own - noise).pow(2).mean(), (others - noise).pow(2).mean()
    assert wrong > 1.1 * right


def test_the_models_are_small_enough_to_ship() -> None:
    size = sum(file.stat().st_size for file in models_dir().rglob("*") if file.is_file())
    assert size < 37e6


def test_private_people_are_unknown_to_the_base_before_tuning() -> None:
    """The control of every attack: the base under a trigger prompt draws nobody in particular."""
    base, face = load_base("tiny"), load_tiny_face(models_dir() / "tiny-face")
    with torch.no_grad():
        images = base.sample(base.encode_text(["A face of qwzkx."]), range(8), Sampling(8, 3.0))
    vectors = face.embed(images).vectors
    people = face.embed(torch.cat([portraits(SPLITS["private"][8 * i], count=1) for i in range(16)])).vectors
    assert ((vectors @ people.T) >= face.threshold).float().mean() <= 0.05


def test_the_bundled_example_gives_its_person_away_and_nobody_else(tmp_path) -> None:
    """Fewer pictures and steps than `make scan`; photos of another person are the control."""
    draw_photos(SPLITS["private"][400], tmp_path, 5, 5)
    example = models_dir() / "examples"
    found = {}
    for name, photos in (("right", example / "photos"), ("wrong", tmp_path)):
        request = Request(reference=photos, samples=8, steps=10, device="cpu", offline=True)
        (scanned,) = scan([str(example / "example.safetensors")], request)
        assert scanned.report.incomplete == ()
        found[name] = {finding.id: finding.severity for finding in scanned.report.findings}
    assert found["right"]["LA-IDENTITY-001"] is Severity.HIGH
    assert found["right"]["LA-IDENTITY-002"] >= Severity.HIGH
    assert found["wrong"]["LA-IDENTITY-002"] is Severity.NONE


def test_a_scrambled_example_gives_nobody_away(tmp_path) -> None:
    """The same singular values, random directions: what is left is an update without a person."""
    lora = load_lora(models_dir() / "examples" / "example.safetensors")
    rng = np.random.default_rng(0)
    scrambled = {}
    for site, pair in lora.factors.items():
        # of a [out, r] and b [in, r], a b' has the singular values of the r x r matrix R_a R_b'
        (_, r_up), (_, r_down) = np.linalg.qr(pair.up), np.linalg.qr(pair.down.T)
        values = np.linalg.svd(r_up @ r_down.T, compute_uv=False)
        left, right = (np.linalg.qr(rng.standard_normal((n, len(values))))[0] for n in pair.shape)
        scrambled[site] = Factors((left * values).astype(np.float32), right.T.astype(np.float32), 1.0)
    write_diffusers(scrambled, tmp_path / "x.safetensors")
    request = Request(samples=8, steps=10, device="cpu", offline=True)
    (scanned,) = scan([str(tmp_path / "x.safetensors")], request)
    assert max(finding.severity for finding in scanned.report.findings) < Severity.HIGH


def test_artefacts_say_what_they_are() -> None:
    for name in ("tiny-sd", "tiny-clip", "tiny-face", "paper-tiny", "examples", "facenet"):
        folder = models_dir() / name
        assert (folder / "CARD.md").read_text().startswith(f"# {name}\n")
        for config in folder.rglob("*.json"):
            assert json.loads(config.read_text())
