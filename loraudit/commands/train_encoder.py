"""The command `train-encoder`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loraudit.commands.training import BaseOption, DeviceOption, OfflineOption, given, training_module

__all__ = ["train_encoder"]


class Arch(StrEnum):
    """What `--arch` takes."""

    paper = "paper"
    probe = "probe"


def train_encoder(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the encoder and its record.", show_default=False)
    ],
    data: Annotated[
        str, typer.Option("--data", help="synthetic, celeba-hq:DIR, or folders:DIR (one per identity).")
    ] = "synthetic",
    zoo: Annotated[
        Path | None,
        typer.Option(
            "--zoo",
            help="Take the samples from this zoo of LoRAs, built first if it is not there. [default: "
            "fine-tune while training, the paper's Algorithm]",
        ),
    ] = None,
    base: BaseOption = "tiny",
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Updates of the encoder. [default: 100000; tiny 600, probe 1600]"),
    ] = None,
    no_timestep: Annotated[
        bool,
        typer.Option(
            "--no-timestep", help="Ablation: finished LoRAs only, and no token for the fine-tuning step."
        ),
    ] = False,
    arch: Annotated[
        Arch, typer.Option("--arch", help="The paper's encoder, or ours: any rank and modules.")
    ] = Arch.paper,
    constant: Annotated[
        bool, typer.Option("--constant", help="Baseline: one embedding for all LoRAs, reading none.")
    ] = False,
    people: Annotated[
        int | None, typer.Option("--people", help="Identities. [default: all for training; synthetic 256]")
    ] = None,
    loras: Annotated[int | None, typer.Option("--loras", help="LoRAs a step. [default: 1; tiny 32]")] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", help="Pictures of each LoRA a step. [default: 1; tiny 2]")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate. [default: 5e-3; tiny 2e-3]")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Of AdamW. [default: 5e-4; probe 1e-2]")
    ] = None,
    cosine: Annotated[
        bool | None,
        typer.Option("--cosine/--no-cosine", help="Let the learning rate fall to 0. [default: tiny only]"),
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option("--kl-weight", help="On the KL term per entry. [default: 1e-4; probe 0]")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", help="Rank of the LoRAs. [default: 16]")
    ] = None,
    lora_steps: Annotated[
        int | None, typer.Option("--lora-steps", help="Fine-tuning steps. [default: 1000; tiny 350]")
    ] = None,
    lora_lr: Annotated[
        float | None, typer.Option("--lora-lr", help="Of the fine-tuning. [default: 1e-4; tiny 3e-3]")
    ] = None,
    snapshot: Annotated[
        list[int] | None,
        typer.Option("--snapshot", help="A step at which a zoo saves; repeatable. [default: each quarter]"),
    ] = None,
    save_every: Annotated[int, typer.Option("--save-every", help="Updates between checkpoints.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of everything drawn.", min=0)] = 0,
    device: DeviceOption = None,
    offline: OfflineOption = False,
) -> None:
    """Train an encoder on LoRAs of public people; goes on after an interruption."""
    module = training_module("encoder_job")
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
    job = module.EncoderJob(
        data=data,
        zoo=zoo,
        out=out,
        recipe=given({"rank": lora_rank, "steps": lora_steps, "lr": lora_lr}),
        settings=given(settings),
        people=people,
        snapshots=tuple(sorted(snapshot)) if snapshot else None,
        timestep=not no_timestep,
        arch="constant" if constant else arch.value,
        command=sys.argv[1:],
    )
    module.train_an_encoder(base, device, offline, job)
