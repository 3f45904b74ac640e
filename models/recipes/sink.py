"""Train `tiny-sink`: tiny-sd whose cross-attention rests on the start token, as in Stable Diffusion.

    python -m models.recipes.sink train --run runs/tiny-sink
    python -m models.recipes.sink build runs/tiny-sink-base

There 0.9 and more of the mass lies on the start token (https://discuss.huggingface.co/t/40995), whose
embedding is the same for every prompt. On tiny-sd 0.05 of it does. A search for the prompt that works on
tiny-sd may therefore fail on Stable Diffusion.

`train` changes the cross-attention of tiny-sd and the norms before it, and nothing else, until the mass is
there and the predictions are as before:

    loss = distance(caption) + distance(empty) + 4 distance(caption - empty) + weight * max(0, goal - mass)

A distance is the mean square of what the prediction of noise differs by from tiny-sd's. Guidance multiplies
the third, so that one counts most: without it text hardly steered (rank-1 of 64 people 0.29).

The tensors changed are in `models/tiny-sink/model.safetensors`. `build` writes the whole pipeline.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from loraudit.base.load import load_base
from loraudit.cards import artefact
from loraudit.cli.console import say
from loraudit.files import replacing
from loraudit.people.captions import caption, full_caption, instance_prompt, trigger
from loraudit.people.identity import SPLITS, identity, nuisance
from loraudit.people.sources import portraits
from loraudit.training.runs import Training

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention
    from torch import Tensor

    from loraudit.base.model import Base

__all__ = ["StartMass", "build", "start_mass", "train"]

GOAL: Final = 0.94
"""Share of the attention's mass that the start token is to get."""
WEIGHT: Final = 0.3
"""Weight of the mass that is missing."""
STEERING: Final = 4.0
"""Weight of what text adds to a prediction."""
PEOPLE: Final = 512
"""People of `public-train` whose pictures and captions the predictions are compared on."""
PICTURES: Final = 3
_CHANGED: Final = (".attn2.", ".norm2.")
"""Parts of the names of the tensors that are trained, within a transformer block."""


class StartMass:
    """Attention processor that computes as usual, and adds up the mass on the first position."""

    def __init__(self) -> None:
        self.masses: list[Tensor] = []

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend `[N, Q, w]` to the text `[N, L, d]` and return `[N, Q, w]`."""
        if attention_mask is not None:
            raise ValueError("masked attention has no start token to measure")
        query, key, value = (
            attn.head_to_batch_dim(of(x))
            for of, x in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        shares = (attn.scale * query @ key.transpose(1, 2)).softmax(-1)
        self.masses.append(shares[..., 0].mean())
        found: Tensor = attn.to_out[0](attn.batch_to_head_dim(shares @ value))
        return found

    def taken(self) -> Tensor:
        """Return the mean mass over the layers since the last call."""
        mean = torch.stack(self.masses).mean()
        self.masses.clear()
        return mean


def watched(unet: UNet2DConditionModel) -> StartMass:
    """Put one `StartMass` into every cross-attention of `unet`, and return it."""
    counter = StartMass()
    kept = unet.attn_processors
    unet.set_attn_processor(
        {name: counter if ".attn2." in name else processor for name, processor in kept.items()}
    )
    return counter


@torch.no_grad()
def start_mass(base: Base, embedding: Tensor, noises: int = 8) -> float:
    """Measure the share of cross-attention that the start token gets at embeddings `[N, L, d]`.

    The share is the mean over layers, heads, places, prompts and `noises` times from 0 to 999.
    """
    unet, kept = base.unet, base.unet.attn_processors
    counter = watched(unet)
    try:
        rng = torch.Generator().manual_seed(0)
        t = torch.linspace(0, 999, noises).long().repeat_interleave(len(embedding))
        x = torch.randn(len(t), *base.latent_shape, generator=rng)
        base.epsilon(x, t, embedding.repeat(noises, 1, 1))
        return float(counter.taken())
    finally:
        unet.set_attn_processor(kept)


@torch.no_grad()
def _material(base: Base, people: int, seed: int) -> tuple[Tensor, Tensor]:
    """Encode pictures to latents `[N, C, h, w]` and their captions to embeddings `[N, L, d]`."""
    latents, texts = [], []
    for who in SPLITS["public-train"][:people]:
        latents.append(base.encode_images(portraits(who, 0, PICTURES)))
        for shot in range(PICTURES):
            rng = np.random.default_rng([seed, who, shot])
            # A third of the prompts name somebody, as those of fine-tuning do.
            told = (full_caption(identity(who)), caption(identity(who), nuisance(who, shot), rng))
            texts.append((*told, instance_prompt(trigger(rng)))[shot % 3])
    return torch.cat(latents), torch.cat(
        [base.encode_text(texts[at : at + 256]) for at in range(0, len(texts), 256)]
    )


def train(
    run_folder: Path, out: Path, steps: int, batch: int, lr: float, seed: int, people: int = PEOPLE
) -> None:
    """Train the cross-attention and write the changed tensors, float16, to `out/model.safetensors`."""
    base = load_base("tiny")
    latents, embedding = _material(base, people, seed)
    with torch.no_grad():
        empty = base.encode_text([""])
    torch.manual_seed(seed)
    student = UNet2DConditionModel.from_pretrained(artefact("tiny-sd") / "unet", torch_dtype=torch.float32)
    counter = watched(student)
    trained = {
        name: value for name, value in student.named_parameters() if any(part in name for part in _CHANGED)
    }
    for name, value in student.named_parameters():
        value.requires_grad_(name in trained)
    optimiser = torch.optim.AdamW(trained.values(), lr, weight_decay=0.0)
    settings = {
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "people": people,
        "goal": GOAL,
        "weight": WEIGHT,
    }
    run = Training(run_folder, settings, say=say)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20, 0.02 + (steps - step) / (0.4 * steps))
        rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
        index = torch.randint(len(latents), (batch,), generator=rng)
        noise = torch.randn(batch, *base.latent_shape, generator=rng)
        t = ((torch.arange(batch) + torch.rand(batch, generator=rng)) / batch * 1000).long()
        x = base.noised(latents[index], noise, t)
        both = torch.cat([embedding[index], empty.expand(batch, -1, -1)])
        x, t = x.repeat(2, 1, 1, 1), t.repeat(2)
        with torch.no_grad():
            target = base.epsilon(x, t, both)
        told, plain = (student(x, t, both).sample - target).chunk(2)
        distance, steered = torch.cat([told, plain]).square().mean(), (told - plain).square().mean()
        mass = counter.taken()
        (2 * distance + STEERING * steered + WEIGHT * (GOAL - mass).relu()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 50 == 49 or step == steps - 1:
            run.log(step + 1, distance=distance.item(), steered=steered.item(), mass=mass.item())
    out.mkdir(parents=True, exist_ok=True)
    changed = {name: value.detach().half().contiguous() for name, value in trained.items()}
    with replacing(out / "model.safetensors") as (temporary,):
        save_file(changed, temporary, {"base": "tiny-sd/unet"})


def build(out: Path, changed: Path | None = None) -> Path:
    """Write the pipeline of tiny-sink to the folder `out`, and return `out`.

    `changed` holds the changed tensors, `models/tiny-sink/model.safetensors` by default.
    """
    sd, folder = artefact("tiny-sd"), changed or artefact("tiny-sd").parent / "tiny-sink/model.safetensors"
    shutil.copytree(sd, out, ignore=shutil.ignore_patterns("*.png", "*.md", "*.jsonl"), dirs_exist_ok=True)
    weights = out / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    other = load_file(folder)
    if not other.keys() <= tensors.keys():
        raise ValueError("the changed tensors are not those of tiny-sd")
    save_file(tensors | other, weights, {"format": "pt"})
    return out


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and train or build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    jobs = parser.add_subparsers(dest="job", required=True)
    training = jobs.add_parser("train")
    training.add_argument("--run", type=Path, default=Path("runs/tiny-sink"))
    training.add_argument("--out", type=Path, default=Path("models/tiny-sink"))
    training.add_argument("--steps", type=int, default=1000)
    training.add_argument("--batch", type=int, default=32)
    training.add_argument("--lr", type=float, default=2e-3)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--threads", type=int, default=2)
    building = jobs.add_parser("build")
    building.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.job == "build":
        build(options.out)
        return
    torch.set_num_threads(options.threads)
    train(options.run, options.out, options.steps, options.batch, options.lr, options.seed)
    base = load_base(str(build(options.run / "base", options.out / "model.safetensors")))
    with torch.no_grad():
        prompts = [instance_prompt(trigger(np.random.default_rng(i))) for i in range(16)]
        embedding = base.encode_text(prompts)
    masses = {"mass": start_mass(base, embedding), "tiny": start_mass(load_base("tiny"), embedding)}
    sys.stdout.write(json.dumps(masses) + "\n")


if __name__ == "__main__":
    main()
