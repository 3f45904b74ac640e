"""LoRAs a second of a zoo, against stock peft one at a time, in one run on the same base.

    python benchmarks/zoo_finetuning.py [--people 32] [--steps 6] [--batch 1] [--threads N]

Both sides do the paper's recipe: the same targets in UNet and text tower, rank, batch, prior preservation,
AdamW and gradient clipping, in float32. The stock side is diffusers' UNet and transformers' text tower with
peft's adapters, as `train_dreambooth_lora.py` trains them. Loading, class pictures and latents are left out
on both sides. Rounds of the two sides alternate, and the fastest round of each counts, so that other load on
the machine does not decide.
"""

import argparse
import time
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from transformers import CLIPTextModel

from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.cards import base_card
from loraudit.training.finetune import TINY, Recipe, Subject, finetune


class Stock:
    """LoRA of one person with peft, on the networks as diffusers and transformers load them."""

    def __init__(self, base: Base, recipe: Recipe, subject: Subject, prior: torch.Tensor) -> None:
        self.base, self.recipe, self.subject, self.prior = base, recipe, subject, prior
        folder = base_card(base.name).folder
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        self.unet.requires_grad_(False)
        self.text.requires_grad_(False)
        unet = LoraConfig(
            r=recipe.rank, lora_alpha=int(recipe.unet_alpha), target_modules=list(recipe.unet_targets)
        )
        text = LoraConfig(
            r=recipe.rank, lora_alpha=int(recipe.text_alpha), target_modules=list(recipe.text_targets)
        )
        inject_adapter_in_model(unet, self.unet)
        inject_adapter_in_model(text, self.text)
        self.trained = [p for part in (self.unet, self.text) for p in part.parameters() if p.requires_grad]
        self.ids = base.token_ids([subject.prompt, recipe.class_prompt])

    def run(self, steps: int) -> None:
        """Make `steps` updates of the LoRA."""
        recipe, batch = self.recipe, self.recipe.batch
        optimizer = torch.optim.AdamW(self.trained, lr=recipe.lr, weight_decay=recipe.weight_decay)
        for _ in range(steps):
            x = torch.cat(
                [
                    pictures[torch.randint(len(pictures), (batch,))]
                    for pictures in (self.subject.latents, self.prior)
                ]
            )
            noise, t = torch.randn_like(x), torch.randint(len(self.base.alphas), (len(x),))
            text = self.text(self.ids).last_hidden_state.repeat_interleave(batch, 0)
            prediction = self.unet(self.base.noised(x, noise, t), t, text).sample
            instance, prior = (prediction - noise).pow(2).mean((1, 2, 3)).chunk(2)
            (instance.mean() + recipe.prior_weight * prior.mean()).backward()
            torch.nn.utils.clip_grad_norm_(self.trained, recipe.max_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Parse the arguments, run both sides and print the two speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=32, help="LoRAs a pass")
    parser.add_argument("--steps", type=int, default=6, help="updates timed in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1, help="pictures a step; the paper's is 1")
    parser.add_argument("--rank", type=int, default=TINY.rank)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    base = load_base("tiny")
    recipe = replace(TINY, steps=options.steps, batch=options.batch, rank=options.rank)
    prior = torch.randn(16, *base.latent_shape)
    people = [
        Subject(torch.randn(5, *base.latent_shape), f"A face of p{i}.", i) for i in range(options.people)
    ]
    stock = Stock(base, recipe, people[0], prior)
    times: dict[str, list[float]] = {"zoo": [], "stock": []}
    for round_ in range(options.rounds + 1):
        start = time.perf_counter()
        for _ in finetune(base, people, recipe, prior):
            pass
        middle = time.perf_counter()
        # Two updates for each of the zoo's: they are short.
        stock.run(2 * options.steps)
        end = time.perf_counter()
        if round_:  # the first warms up
            times["zoo"].append((middle - start) / options.steps / options.people)
            times["stock"].append((end - middle) / options.steps / 2)
    zoo, one = min(times["zoo"]), min(times["stock"])
    print(
        f"tiny, rank {recipe.rank}, batch {recipe.batch} + {recipe.batch}, "
        f"{torch.get_num_threads()} threads: zoo of {options.people} a pass {1000 * zoo:.1f} ms, "
        f"stock peft {1000 * one:.1f} ms per LoRA and update; "
        f"at {TINY.steps} updates {1 / zoo / TINY.steps:.3f} and {1 / one / TINY.steps:.3f} LoRAs a second: "
        f"{one / zoo:.2f} times as many"
    )


if __name__ == "__main__":
    main()
