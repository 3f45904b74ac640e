"""The cost of training an encoder for SD-1.4: counted at full size, measured on the bundled base.

    python -m benchmarks.training_cost [--rounds N]

Operations forward and backward (a multiply-add is two), and the memory kept for the backward pass, are
counted on tensors without memory. No GPU and no weights are needed. Time on a GPU is the count over an
assumed rate, and therefore an estimate.
"""

import argparse
import time
from collections.abc import Callable, Iterable

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables.sd14_shape import LENGTH, TEXT, UNET, VAE
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.base.schedule import signal_variance
from loraudit.base.vocabulary import clip_tokenizer
from loraudit.training.finetune import PAPER, new_adapters
from loraudit.training.people_a_pass import people_for

LORA_STEPS, UPDATES = 1000, 100_000
WEIGHTS = 4_270_000_000
"""Bytes of SD-1.4's weights in float32."""
LIBRARIES = 1 << 30
"""Bytes that CUDA and the libraries take, at a guess."""


def counted(work: Callable[[], object]) -> int:
    """Count the floating-point operations of `work`."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


def unet_costs(
    unet: UNet2DConditionModel, side: int, length: int, width: int, device: str
) -> tuple[int, int]:
    """Count the operations of one sample: forward, and forward with backward to the embedding.

    The weights are frozen.
    """
    unet.requires_grad_(False).set_attn_processor(AttnProcessor())
    latents = torch.zeros(1, unet.config.in_channels, side, side, device=device)
    t = torch.zeros(1, dtype=torch.long, device=device)
    embedding = torch.zeros(1, length, width, device=device)

    def forward() -> None:
        with torch.no_grad():
            unet(latents, t, embedding)

    def both() -> None:
        given = embedding.clone().requires_grad_()
        unet(latents, t, given).sample.square().mean().backward()

    return counted(forward), counted(both)


def seconds(base: Base, rounds: int) -> float:
    """Time one sample forward and backward on `base`, 16 at a time; the fastest of `rounds` counts."""
    length, width = base.embedding_shape
    latents, t = torch.randn(16, *base.latent_shape), torch.zeros(16, dtype=torch.long)
    best = float("inf")
    for _ in range(rounds):
        given = torch.randn(16, length, width, requires_grad=True)
        started = time.perf_counter()
        base.epsilon(latents, t, given).square().mean().backward()
        best = min(best, time.perf_counter() - started)
    return best / 16


def kept_bytes(work: Callable[[], object], weights: Iterable[torch.Tensor], side: int, length: int) -> int:
    """Count the bytes that `work` keeps for its backward pass, float32, without `weights`.

    Products of queries and keys are left out, since fused attention never stores them.
    """
    known = {weight.untyped_storage()._cdata for weight in weights}
    seen: dict[int, int] = {}
    tokens = {side * side, side * side // 4, side * side // 16}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        scores = tensor.ndim >= 3 and tensor.shape[-2] in tokens and tensor.shape[-1] in {*tokens, length}
        if storage not in known and not scores:
            seen[storage] = max(seen.get(storage, 0), tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(seen.values())


def update_bytes(unet: UNet2DConditionModel, side: int, length: int, width: int) -> int:
    """Count what one sample of an encoder's update keeps: the gradient goes to the embedding alone."""
    given = torch.zeros(1, length, width, device="meta", requires_grad=True)
    t = torch.zeros(1, dtype=torch.long, device="meta")
    latents = torch.zeros(1, unet.config.in_channels, side, side, device="meta")
    return kept_bytes(lambda: unet(latents, t, given).sample.square().mean(), unet.parameters(), side, length)


def person_bytes(unet: UNet2DConditionModel, text: CLIPTextModel, side: int, length: int) -> int:
    """Count what one person's step of fine-tuning keeps by the paper's recipe: two samples, two prompts."""
    base = Base("counted", unet, AutoencoderKL(**VAE), text, clip_tokenizer(), signal_variance())
    adapters = new_adapters(base, PAPER, [0])
    latents, t = (torch.zeros(2, *shape, device="meta") for shape in (base.latent_shape, ()))
    weights = [*unet.parameters(), *text.parameters(), *adapters.parameters]

    def step() -> None:
        tuned = base.with_lora(adapters.terms())
        embedding = tuned.encode_text(["A face of somebody.", PAPER.class_prompt])
        tuned.epsilon(latents, t.long(), embedding).square().mean()

    return kept_bytes(step, weights, side, length)


def main() -> None:
    """Print the counts, the measured rate, and the estimates for SD-1.4."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    with torch.device("meta"):
        unet, vae, text = (
            UNet2DConditionModel(**UNET),
            AutoencoderKL(**VAE),
            CLIPTextModel(CLIPTextConfig(**TEXT)),
        )
        picture = torch.zeros(1, 3, 512, 512)
    shape = UNET["sample_size"], LENGTH, TEXT["hidden_size"]
    forward, both = unet_costs(unet, *shape, "meta")
    kept, person = update_bytes(unet, *shape), person_bytes(unet, text, *shape[:2])
    with torch.no_grad():
        encoded = counted(lambda: vae.encode(picture))
    print(
        f"SD-1.4, one sample of 512 px: forward {forward / 1e12:.2f} TFLOP, with backward {both / 1e12:.2f}"
    )
    print(f"    kept for the backward pass: {kept / 2**30:.1f} GiB in float32")
    print(f"    kept by a person's step of fine-tuning: {person / 2**30:.1f} GiB in float32")
    for memory in (12, 16, 24, 48, 80):
        free = memory * 2**30 - WEIGHTS - LIBRARIES
        print(f"    people a pass of a zoo with {memory} GiB: {people_for(free, person)}")
    print(f"    a picture to its latent, once: {encoded / 1e12:.2f} TFLOP")
    # One picture and one class picture a fine-tuning step (the paper), one picture an update of the encoder.
    lora = 2 * both
    algorithm = UPDATES * (lora + both)
    print(f"    a LoRA of {LORA_STEPS} steps: {LORA_STEPS * lora / 1e15:.1f} PFLOP")
    print(f"    {UPDATES:,} updates, a fine-tuning step before each: {algorithm / 1e15:.0f} PFLOP")
    for rate in (20, 40, 100, 200):
        hours, minutes = (work / (rate * 1e12) for work in (algorithm / 3600, LORA_STEPS * lora / 60))
        print(f"    at {rate} TFLOP/s: {hours:.1f} h for those updates, {minutes:.1f} min for a LoRA")

    base = load_base("tiny")
    small_forward, small = unet_costs(base.unet, base.latent_shape[1], *base.embedding_shape, device="cpu")
    took, threads = seconds(base, rounds), torch.get_num_threads()
    print(
        f"tiny, one sample of 64 px: forward {small_forward / 1e9:.2f} GFLOP, with backward {small / 1e9:.2f}"
    )
    print(f"    on {threads} CPU threads: {1000 * took:.1f} ms, which is {small / took / 1e9:.0f} GFLOP/s")
    print(f"a sample of SD-1.4 takes {both / small:,.0f} times the operations of one of tiny")


if __name__ == "__main__":
    main()
