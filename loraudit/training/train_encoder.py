"""Train an encoder on LoRAs of public people: the paper's (arXiv 2409.08482) or the probe encoder.

A training sample is (LoRA after r fine-tuning steps, r, a picture it was trained on). The encoder turns the
matrices and r into an embedding, under which the tuned base predicts the noise of the noised picture. The
loss is the usual epsilon MSE plus a weighted KL term. Only the encoder learns.

`LiveSource` is the paper's Algorithm: people are fine-tuned for a number of steps drawn uniformly, and every
fine-tuning step is at once a sample. `ZooSource` takes its samples from saved snapshots of a zoo, without
fine-tuning, so that a LoRA can be seen again and again. `VariedSource` takes samples from zoos of several
recipes. `ConstantEmbedding` in the place of the encoder is the baseline that reads no weights, at the same
seeds and budget.

With `Settings.taught` the target is the tuned base's noise prediction under the secret prompt, which is
known of LoRAs of public people. The minimum is the same, as far as a prompt can reach. The noise that no
embedding can predict, most of the usual loss, is left out. The loss is relative to that prediction's own
error, so that the times count at which a prompt decides whom the picture shows.

Of the probe encoder only the answer is learned here, from readings of held-out people
(`loraudit.training.reader`).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from loraudit.base.lowrank import Terms
from loraudit.base.model import Base
from loraudit.encoder.constant import ConstantEmbedding
from loraudit.encoder.paper import PaperEncoder, PaperEncoderConfig, frozen_transformer, kl, reparameterise
from loraudit.encoder.probe import ProbeEncoder, ProbeEncoderConfig
from loraudit.errors import LorauditError
from loraudit.runs import OnStep, unheard
from loraudit.training.encoder_settings import Settings
from loraudit.training.resume import resume
from loraudit.training.runs import Training
from loraudit.training.samples import Sample, Source

__all__ = [
    "new_constant",
    "new_encoder",
    "new_probe",
    "train_encoder",
]

LOG_EVERY: Final = 20
"""Updates between rows of metrics."""
_LEAST_ERROR: Final = 1e-3
"""Floor of the prediction error that a taught loss is divided by."""
CONSTANT_SPEED: Final = 10.0
"""Learning rate of a probe encoder's constant embedding, relative to that of its weights."""


def new_encoder(base: Base, terms: Terms, timestep: bool, max_steps: int, seed: int) -> PaperEncoder:
    """Start the paper's encoder for LoRAs with the UNet sites and rank of `terms`.

    Raises `LorauditError` if the encoder cannot read such LoRAs.
    """
    unet = {site: pair for site, pair in sorted(terms.items()) if site.startswith("unet.")}
    frozen = frozen_transformer(base.text_encoder)
    try:
        config = PaperEncoderConfig(
            sites=tuple((site, up.shape[1], down.shape[2]) for site, (up, down) in unet.items()),
            rank=next(iter(unet.values()))[0].shape[2] if unet else 0,
            length=base.embedding_shape[0],
            text=frozen.shape,
            timestep=timestep,
            max_steps=max_steps,
        )
    except ValueError as error:
        raise LorauditError(
            f"the paper's encoder cannot read such LoRAs: {error}", "adapt more modules"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperEncoder(config, frozen).to(base.device)


def new_probe(base: Base, class_prompt: str, max_steps: int, face: int, seed: int) -> ProbeEncoder:
    """Start a probe encoder over the modules of the UNet's attention blocks, where most LoRAs are.

    The encoder reads face vectors of size `face`, and answers at first with the class prompt's embedding.
    """
    sites = tuple(
        (site, len(module.weight), module.weight[0].numel())
        for site, module in sorted(base.modules().items())
        if isinstance(module, nn.Linear | nn.Conv2d) and site.startswith("unet.") and ".attentions." in site
    )
    length, width = base.embedding_shape
    with torch.no_grad():
        start = base.encode_text([class_prompt])[0].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ProbeEncoder(ProbeEncoderConfig(sites, length, width, max_steps, face), start).to(base.device)


def new_constant(base: Base, class_prompt: str) -> ConstantEmbedding:
    """Start the baseline from the embedding of the class prompt."""
    with torch.no_grad():
        return ConstantEmbedding(base.encode_text([class_prompt])[0].float())


def train_encoder(
    base: Base,
    source: Source,
    model: PaperEncoder | ProbeEncoder | ConstantEmbedding,
    settings: Settings,
    folder: Path,
    describe: Mapping[str, Any] | None = None,
    until: int | None = None,
    on_step: OnStep = unheard,
) -> None:
    """Train `model` in place for `settings.steps` updates, or up to update number `until`.

    `folder` receives `run.json` (before the first step: settings, `describe`, versions), `metrics.jsonl`,
    `loss.png` and `checkpoint.pt`. From the checkpoint the same call goes on, on a CPU to the same bits.
    `on_step` hears the updates of the main process. Several processes (`accelerate launch`) draw samples of
    their own and average their gradients.

    Raises `LorauditError` if `folder` holds a training with other settings or a damaged checkpoint, or the
    loss is no longer finite.
    """
    accelerator = Accelerator(cpu=base.device.type == "cpu")
    main, process = accelerator.is_main_process, accelerator.process_index
    config = {**dataclasses.asdict(settings), **(describe or {}), "processes": accelerator.num_processes}
    record = json.dumps(config, sort_keys=True, default=str)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(model), lr=settings.lr, weight_decay=settings.weight_decay)
    step, recent, spent = resume(folder, record, model, optimizer)
    accelerator.wait_for_everyone()
    run = Training(folder, config, spent=spent) if main else None
    if run is not None:
        run.rewind(step)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    prepared.train()
    stop = settings.steps if until is None else min(until, settings.steps)
    stream = source.samples(step, process)
    if run is not None:
        on_step(step, settings.steps, "training the encoder")
    while step < stop:
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step) * group["speed"]
        loss, divergence = _loss(base, next(stream), prepared, settings, step, process)
        if not loss.isfinite():
            raise LorauditError(f"the training diverged at step {step + 1}", "take a smaller learning rate")
        accelerator.backward(loss + settings.kl_weight * divergence)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append((loss.item(), divergence.item()))
        if run is None:
            continue
        on_step(step, settings.steps, "training the encoder")
        if step % LOG_EVERY == 0:
            mean_loss, mean_kl = np.mean(recent, 0)
            run.log(step, loss=mean_loss, kl=mean_kl, lr=settings.rate(step - 1))
            recent = []
        if step % settings.save_every == 0 or step == stop:
            saved = {"model": model.own_state(), "optimizer": optimizer.state_dict()}
            run.save({**saved, "step": step, "recent": recent, "config": record})
    model.eval()
    if run is not None:
        _draw_loss(folder)
    accelerator.wait_for_everyone()


def _loss(
    base: Base,
    sample: Sample,
    model: Any,  # noqa: ANN401
    settings: Settings,
    step: int,
    process: int,
) -> tuple[Tensor, Tensor]:
    """Compute epsilon MSE and KL per entry of the embedding, both means over the LoRAs of the sample."""
    rng = np.random.default_rng([settings.seed, 22, step, process])
    pictures = settings.pictures
    x = torch.cat([own[torch.from_numpy(rng.integers(len(own), size=pictures))] for own in sample.latents])
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(x)
    # One time per stratum: each is still uniform, and the loss of a batch varies far less.
    strata = (rng.permutation(len(x)) + rng.random(len(x))) / len(x) * len(base.alphas)
    t = torch.from_numpy(strata.astype(np.int64)).to(x.device)
    with torch.random.fork_rng(devices=[]):
        # Random dropout in a model is a function of the step, as every other draw is.
        torch.manual_seed(int(np.random.default_rng([settings.seed, 24, step, process]).integers(2**62)))
        told = {} if sample.faces is None else {"faces": sample.faces}
        mean, logvar = model(sample.terms, sample.steps, **told)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    embedding = reparameterise(mean, logvar, generator).repeat_interleave(pictures, 0)
    noised = base.noised(x, noise, t)
    tuned = base.with_lora(sample.terms)
    prediction = tuned.epsilon(noised, t, embedding)
    divergence = kl(mean, logvar).mean() / mean[0].numel()
    if not settings.taught:
        return (prediction - noise).pow(2).mean(), divergence
    with torch.no_grad():
        prompt = tuned.encode_text(sample.prompts).repeat_interleave(pictures, 0)
        taught = tuned.epsilon(noised, t, prompt)
    # The error of the secret prompt's own prediction falls a hundredfold from little noise to much.
    scale = (taught - noise).pow(2).mean((1, 2, 3)).clamp(min=_LEAST_ERROR)
    return ((prediction - taught).pow(2).mean((1, 2, 3)) / scale).mean(), divergence


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Group the trained parameters by their speed relative to the learning rate."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    constant = [p for name, p in named if name == "constant"]
    rest = {"params": [p for name, p in named if name != "constant"], "speed": 1.0}
    return [rest, {"params": constant, "speed": CONSTANT_SPEED, "weight_decay": 0.0}] if constant else [rest]


def _draw_loss(folder: Path) -> None:
    """Draw `loss.png` from `metrics.jsonl`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows])
    axes.set(xlabel="update of the encoder", ylabel="noise prediction error")
    axes.grid(alpha=0.3)
    figure.savefig(folder / "loss.png", dpi=130, metadata={"Software": None})
    plt.close(figure)
