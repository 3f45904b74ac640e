"""The probe encoder: one answer for one update, whatever its factors, rank, layout and modules."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loraudit.base.load import load_base
from loraudit.base.lowrank import stack
from loraudit.bench.conditions import as_lora, refactorised
from loraudit.encoder import ProbeEncoder, ProbeEncoderConfig, load_encoder, save_encoder
from loraudit.encoder.checkpoint import DoesNotFit
from loraudit.encoder.paper import frozen_transformer
from loraudit.lora import export_lora, load_lora
from loraudit.training.finetune import TINY
from loraudit.training.reader import fit_reader
from loraudit.training.train_encoder import new_encoder, new_probe
from loraudit.training.zoo import Zoo
from loraudit.training.zoo_plan import Plan, members_of
from tests.tiny import tiny_base

ATTENTION = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SITES = (("unet.a.to_q", 24, 16), ("unet.a.to_v", 16, 40), ("text_encoder.b.q_proj", 8, 8))
CONFIG = ProbeEncoderConfig(
    SITES, length=5, embedding=16, max_steps=100, face=7, probes=6, components=4, width=32
)


def speaking(config=CONFIG, start=None):
    """An encoder whose answer depends on what it reads: a fresh one says the constant."""
    torch.manual_seed(0)
    return loud(ProbeEncoder(config, start).eval())


def loud(encoder):
    """Probes, reader and answer at random: what was read shows in the answer."""
    for tensor in (encoder.left, encoder.right, encoder.reader, encoder.basis, encoder.answer.weight):
        torch.nn.init.normal_(tensor.data, std=0.5)
    torch.nn.init.normal_(encoder.face.weight, std=1.0)
    return encoder


def random_terms(rank=4, count=3, sites=SITES, seed=1):
    g = torch.Generator().manual_seed(seed)
    return {
        site: (
            torch.randn(count, out, rank, generator=g) * 0.1,
            torch.randn(count, rank, in_, generator=g) * 0.1,
        )
        for site, out, in_ in sites
    }


def sites_of(base, *ends):
    """The linear modules of a base whose names end so."""
    return [(s, *map(int, m.weight.shape)) for s, m in base.modules().items() if s.endswith(ends)]


def test_the_answer_does_not_depend_on_the_factors() -> None:
    encoder, terms = speaking(), random_terms()
    other = refactorised(terms, seed=3)
    assert all((up - other[site][0]).abs().max() > 0.05 for site, (up, _) in terms.items())
    torch.testing.assert_close(encoder(terms)[0], encoder(other)[0], atol=1e-5, rtol=0)
    # Negative controls: another update is another answer, and the paper's encoder sees the factors.
    assert (encoder(terms)[0] - encoder(random_terms(seed=2))[0]).abs().max() > 1e-2
    base = tiny_base()
    sites = [
        (s, *map(int, m.weight.shape)) for s, m in base.modules().items() if s.endswith((".to_q", ".to_v"))
    ]
    tuned = random_terms(sites=[(s, o, i) for s, o, i in sites])
    paper = new_encoder(base, tuned, timestep=False, max_steps=1, seed=0).eval()
    assert (paper(tuned)[0] - paper(refactorised(tuned, seed=3))[0]).abs().max() > 1e-2


def test_any_rank_and_any_modules() -> None:
    encoder, terms = speaking(), random_terms()
    wider = {s: (torch.cat([u, 0 * u], 2), torch.cat([d, d], 1)) for s, (u, d) in terms.items()}
    torch.testing.assert_close(encoder(terms)[0], encoder(wider)[0], atol=1e-5, rtol=0)
    # A module that is missing and one whose update is zero are the same thing, and not the same as all three.
    site = SITES[1][0]
    without = {s: pair for s, pair in terms.items() if s != site}
    zero = {**terms, site: (terms[site][0] * 0, terms[site][1])}
    torch.testing.assert_close(encoder(without)[0], encoder(zero)[0], atol=1e-6, rtol=0)
    assert (encoder(without)[0] - encoder(terms)[0]).abs().max() > 1e-3
    # Modules that it does not know are not read.
    more = {**terms, "unet.other": (torch.ones(3, 4, 2), torch.ones(3, 2, 4))}
    assert torch.equal(encoder(more)[0], encoder(terms)[0])
    with pytest.raises(ValueError, match="not 24 x 16"):
        encoder({SITES[0][0]: (torch.ones(1, 3, 2), torch.ones(1, 2, 16))})


def test_a_lora_in_a_batch_is_read_as_alone() -> None:
    encoder, terms = speaking(), random_terms()
    alone = encoder({s: (u[1:2], d[1:2]) for s, (u, d) in terms.items()})[0]
    torch.testing.assert_close(encoder(terms)[0][1:2], alone, atol=1e-5, rtol=0)


def test_with_nothing_read_it_is_the_constant() -> None:
    start = torch.randn(5, 16, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    fresh = ProbeEncoder(CONFIG, start).eval()
    mean, logvar = fresh(random_terms())
    assert torch.equal(mean, start.expand(3, -1, -1)) and logvar.shape == mean.shape


def test_the_step_may_be_unknown() -> None:
    encoder, terms = speaking(), random_terms()
    unknown = encoder(terms)[0]
    assert torch.equal(encoder(terms, torch.zeros(3, dtype=torch.long))[0], unknown)
    assert not torch.allclose(encoder(terms, torch.tensor([50, 50, 50]))[0], unknown)


def test_every_layout_is_read_alike(tmp_path) -> None:
    base = load_base("tiny")
    encoder = loud(new_probe(base, "a face", 10, face=128, seed=0).eval())
    terms = random_terms(count=1, sites=sites_of(base, ".to_q", ".q_proj"))
    lora = replace(as_lora(terms, 0), base="tiny")
    expected = encoder(stack([lora]))[0]
    for layout in ("kohya", "diffusers", "peft"):
        path = tmp_path / (layout if layout == "peft" else f"{layout}.safetensors")
        export_lora(lora, layout, path)
        torch.testing.assert_close(encoder(stack([load_lora(str(path))]))[0], expected, atol=1e-4, rtol=0)


def test_it_is_saved_and_loaded_and_says_what_does_not_fit(tmp_path) -> None:
    base = tiny_base()
    frozen, length = frozen_transformer(base.text_encoder), base.embedding_shape[0]
    encoder = new_probe(base, "a face", 10, face=128, seed=0).eval()
    save_encoder(tmp_path / "enc", encoder, frozen, base="tiny")
    loaded, checkpoint = load_encoder(tmp_path / "enc", frozen, length)
    assert isinstance(loaded, ProbeEncoder) and not loaded.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value.half().float(), loaded.state_dict()[name])
    checkpoint.check_fits(as_lora(random_terms(sites=[(ATTENTION, 8, 8)]), 0))
    with pytest.raises(DoesNotFit, match="none of the modules"):
        checkpoint.check_fits(as_lora(random_terms(), 0))
    with pytest.raises(DoesNotFit, match="of shape"):
        checkpoint.check_fits(as_lora(random_terms(sites=[(ATTENTION, 8, 9)]), 0))


def test_the_config_survives_json_and_refuses_nonsense() -> None:
    assert ProbeEncoderConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG
    for change in ({"probes": 0}, {"face": 0}, {"sites": ()}, {"sites": (SITES[0], SITES[0])}):
        with pytest.raises(ValueError, match=r"sites|size"):
            replace(CONFIG, **change)
    with pytest.raises(ValueError, match="fields"):
        ProbeEncoderConfig.from_json({"sites": []})


def test_training_drops_at_random_and_stays_reproducible() -> None:
    encoder, terms = speaking(), random_terms()
    encoder.train()
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append(encoder(terms, torch.tensor([5, 5, 5]))[0])
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    assert np.isfinite(answers[0].detach().numpy()).all()


def test_the_reader_finds_whom_a_lora_shows_and_not_in_noise(tmp_path) -> None:
    """Updates that hold a person's vector in a hidden direction, in factors of a random basis each."""
    base = tiny_base()
    sites = sites_of(base, ".attn2.to_v")[:3]
    g = torch.Generator().manual_seed(0)
    faces = torch.nn.functional.normalize(torch.randn(60, 6, generator=g), dim=1)
    hidden = {s: torch.randn(6, out, in_, generator=g) for s, out, in_ in sites}

    def zoo_of(people):
        tensors = {}
        for site, out, in_ in sites:
            update = torch.einsum("mk,koi->moi", people, hidden[site]) + 0.2 * torch.randn(
                len(people), out, in_, generator=g
            )
            u, s, v = torch.linalg.svd(update, full_matrices=False)
            turn = torch.linalg.qr(torch.randn(len(people), s.shape[1], s.shape[1], generator=g))[0]
            tensors[f"000001/{site}.up"] = (u * s[:, None]) @ turn
            tensors[f"000001/{site}.down"] = (turn.mT @ v).contiguous()
        return tensors

    plan = Plan(tuple(range(0, 240, 4)), replace(TINY, steps=1), (1,), people_per_pass=60)
    save_file(zoo_of(faces), tmp_path / "pass-0000.safetensors")
    zoo = Zoo(tmp_path, plan, members_of(plan))
    for truth, finds in ((faces, True), (faces[torch.randperm(60, generator=g)], False)):
        encoder = new_probe(base, "a face", 1, face=6, seed=0).eval()
        told = fit_reader(encoder, [zoo], [truth])[0][:, 0]
        closest = ((told @ (truth - truth.mean(0)).T).argmax(1) == torch.arange(60)).float().mean()
        assert (closest > 0.6) == finds and (closest < 0.2) != finds
        # What the encoder itself reads of a LoRA it was fitted to is no worse.
        views, norms = encoder.views(zoo.terms(0, 1))
        assert ((encoder.read(views, norms) * told).sum(1).mean() > 0.8) == finds
