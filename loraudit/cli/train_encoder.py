"""The command `train-encoder`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from loraudit.cli.choices import (
    BaseOption,
    DeviceOption,
    NoProgressOption,
    OfflineOption,
    QuietOption,
    check_base,
    given,
)
from loraudit.cli.console import say
from loraudit.cli.progress import progress, resumable
from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = ["train_encoder"]

EXAMPLES: Final = (
    "loraudit train-encoder --arch probe --zoo zoo/ -o encoder/",
    "loraudit train-encoder --base sd14 --data folders:photos/ -o encoder/",
    "loraudit train-encoder --base sd14 --from loras/ --zoo zoo/ -o encoder/",
)


_SHOWN: Final = 20
"""People or LoRAs left out that are named, at most; all of them are counted."""


class Arch(StrEnum):
    """The values of `--arch`."""

    paper = "paper"
    probe = "probe"


def train_encoder(
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder to write; an interrupted run in it goes on.", show_default=False
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Pictures to train on: synthetic, celeba-hq:DIR, or folders:DIR (a folder per person).",
        ),
    ] = "synthetic",
    public: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder of public LoRAs to train on: a folder per person, with LoRAs and photos. Replaces "
            "--data; --zoo names a new folder for a copy.",
        ),
    ] = None,
    zoo: Annotated[
        Path | None,
        typer.Option(
            "--zoo",
            help="Folder of LoRAs to take the samples from, built first if missing. [default: fine-tune "
            "LoRAs while training, as the paper does]",
        ),
    ] = None,
    base: BaseOption = "tiny",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", help="Training steps of the encoder. [default: 100000; tiny 600, tiny probe 1600]"
        ),
    ] = None,
    no_timestep: Annotated[
        bool,
        typer.Option(
            "--no-timestep",
            help="Train as an ablation: on finished LoRAs only, without a token for the fine-tuning step.",
        ),
    ] = False,
    arch: Annotated[
        Arch,
        typer.Option(
            "--arch",
            help="Encoder to train: the paper's, or the probe, which reads any rank and modules.",
        ),
    ] = Arch.paper,
    constant: Annotated[
        bool,
        typer.Option(
            "--constant", help="Train a baseline instead: one embedding for all LoRAs, without reading any."
        ),
    ] = False,
    people: Annotated[
        int | None,
        typer.Option("--people", help="Number of people to train on. [default: all; synthetic 256]"),
    ] = None,
    loras: Annotated[
        int | None,
        typer.Option(
            "--loras", help="LoRAs per training step. [default: 1; probe 8; tiny 32, tiny probe 16]"
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option("--pictures", help="Pictures per LoRA and training step. [default: 1; tiny 2]"),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            help="Learning rate of the encoder. [default: 5e-3; probe 3e-4; tiny 2e-3, tiny probe 3e-3]",
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option("--weight-decay", help="Weight decay of AdamW. [default: 5e-4; probe 1e-2]"),
    ] = None,
    cosine: Annotated[
        bool | None,
        typer.Option(
            "--cosine/--no-cosine", help="Let the learning rate fall to 0. [default: for tiny and the probe]"
        ),
    ] = None,
    kl_weight: Annotated[
        float | None,
        typer.Option("--kl-weight", help="Weight of the KL term per entry. [default: 1e-4; probe 0]"),
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", help="Rank of the LoRAs to train on. [default: 16]")
    ] = None,
    lora_steps: Annotated[
        int | None,
        typer.Option("--lora-steps", help="Fine-tuning steps of the LoRAs. [default: 1000; tiny 350]"),
    ] = None,
    lora_lr: Annotated[
        float | None, typer.Option("--lora-lr", help="Learning rate of the LoRAs. [default: 1e-4; tiny 3e-3]")
    ] = None,
    snapshot: Annotated[
        list[int] | None,
        typer.Option(
            "--snapshot",
            help="Fine-tuning step after which a new zoo saves LoRAs; repeatable. [default: every quarter]",
        ),
    ] = None,
    save_every: Annotated[
        int, typer.Option("--save-every", help="Training steps between checkpoints.")
    ] = 100,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Random seed for people, initialization, noise and data order.", min=0),
    ] = 0,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
) -> None:
    """Train the encoder that reads a person out of a LoRA.

    The encoder learns from LoRAs of public or synthetic people. After an interruption, the same command goes
    on where the training stopped.
    """
    check_base(base)
    if public is not None and data != "synthetic":
        raise LorauditError("--from brings its own photos", "leave out --data")
    from loraudit.training.encoder_job import EncoderJob, train_an_encoder

    settings = {
        "steps": steps,
        "loras": loras,
        "pictures": pictures,
        "lr": lr,
        "weight_decay": weight_decay,
        "cosine": cosine,
        "kl_weight": kl_weight,
        "seed": seed,
        "save_every": save_every,
    }
    job = EncoderJob(
        data=data,
        zoo=zoo,
        out=out,
        recipe=given({"rank": lora_rank, "steps": lora_steps, "lr": lora_lr}),
        settings=given(settings),
        people=people,
        snapshots=tuple(sorted(snapshot)) if snapshot else None,
        timestep=not no_timestep,
        public=public,
        arch="constant" if constant else arch.value,
        command=sys.argv[1:],
    )
    with resumable(), progress("loading the base model") as on_step:
        left_out = train_an_encoder(base, device, offline, job, on_step)
    for found, why in (
        (left_out.people, "people were left out, as their pictures cannot be read"),
        (left_out.loras, "LoRAs were left out"),
    ):
        if found:
            say(f"{len(found)} {why}:")
            for one in found[:_SHOWN]:
                say(f"  {one}")
    say(f"the encoder, its card and its record are in {clean(str(out), 300)}")
