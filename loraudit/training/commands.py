"""The commands `finetune` and `train-encoder`: their options. What they do is in `loraudit.training.jobs`.

Importing this loads neither torch nor diffusers.
"""

import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from loraudit.errors import LorauditError

__all__ = ["finetune", "train_encoder"]


class Layout(StrEnum):
    """How a LoRA file names its matrices."""

    diffusers = "diffusers"
    kohya = "kohya"
    peft = "peft"


class Arch(StrEnum):
    """What `--arch` takes."""

    paper = "paper"
    probe = "probe"


BaseOption = Annotated[str, typer.Option("--base", help="A base by name, or a diffusers pipeline folder.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda. [default: cuda where there is one]")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


def finetune(
    images: Annotated[list[Path], typer.Argument(help="Pictures of one person: files, or a folder of them.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The LoRA to write (peft: a folder).", show_default=False)
    ],
    base: BaseOption = "tiny",
    layout: Annotated[
        Layout, typer.Option("--layout", help="How the file names its matrices.")
    ] = Layout.diffusers,
    name: Annotated[
        str | None, typer.Option("--name", help="The trigger word. [default: 4 to 11 random letters]")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help='Instance prompt. [default: "A face of NAME."]')
    ] = None,
    class_prompt: Annotated[
        str | None, typer.Option("--class-prompt", help='Of the class pictures. [default: "A human face."]')
    ] = None,
    no_prior: Annotated[bool, typer.Option("--no-prior", help="No prior preservation.")] = False,
    class_images: Annotated[
        int | None, typer.Option("--class-images", help="Class pictures. [default: 200; tiny 64]")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Adapted UNet modules; repeatable. [default: to_q, to_v]"),
    ] = None,
    no_text_encoder: Annotated[
        bool, typer.Option("--no-text-encoder", help="Leave the text encoder alone.")
    ] = False,
    rank: Annotated[int, typer.Option("--rank", help="Rank of every matrix pair.")] = 16,
    alpha: Annotated[float, typer.Option("--alpha", help="Alpha of the UNet.")] = 27,
    text_alpha: Annotated[float, typer.Option("--text-alpha", help="Alpha of the text encoder.")] = 17,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate. [default: 1e-4; tiny 3e-3]")
    ] = None,
    text_lr: Annotated[
        float | None, typer.Option("--text-lr", help="Of the text encoder. [default: --lr; tiny 1e-4]")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates. [default: 1000; tiny 350]")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Pictures a step. [default: 1; tiny 2]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the start, the noise and the order.", min=0)] = 0,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a LoRA that exists.")] = False,
) -> None:
    """Make a LoRA of one person: DreamBooth with the paper's recipe."""
    jobs = _jobs()
    jobs.check_output(output, layout.value, force)
    changes: dict[str, Any] = {
        "unet_targets": tuple(target) if target else None,
        "text_targets": () if no_text_encoder else None,
        "rank": rank,
        "unet_alpha": alpha,
        "text_alpha": text_alpha,
        "lr": lr,
        "text_lr": text_lr,
        "steps": steps,
        "batch": batch,
        "prior_weight": 0.0 if no_prior else None,
        "class_prompt": class_prompt,
        "class_images": class_images,
    }
    if prompt is None:
        from loraudit.training.captions import instance_prompt

        prompt = instance_prompt(name or _random_name())
    # A seed that can be guessed may make the pictures; what the person is called must not come from it.
    sys.stderr.write(f"instance prompt: {prompt}\n")
    jobs.finetune_images(
        jobs.training_base(base, device, offline),
        images,
        output,
        layout.value,
        _given(changes),
        prompt,
        seed,
        force,
    )


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
        int | None, typer.Option("--steps", help="Updates of the encoder. [default: 100000; tiny 600]")
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
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of AdamW.")] = 5e-4,
    cosine: Annotated[
        bool | None,
        typer.Option("--cosine/--no-cosine", help="Let the learning rate fall to 0. [default: tiny only]"),
    ] = None,
    kl_weight: Annotated[float, typer.Option("--kl-weight", help="On the KL term per entry.")] = 1e-4,
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
    jobs = _jobs()
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
    job = jobs.EncoderJob(
        data=data,
        zoo=zoo,
        out=out,
        recipe=_given({"rank": lora_rank, "steps": lora_steps, "lr": lora_lr}),
        settings=_given(settings),
        people=people,
        snapshots=tuple(sorted(snapshot)) if snapshot else None,
        timestep=not no_timestep,
        arch="constant" if constant else arch.value,
        command=sys.argv[1:],
    )
    jobs.train_an_encoder(base, device, offline, job)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _random_name() -> str:
    """The paper's 4 to 11 lower-case letters, from the system's entropy: a trigger is a secret."""
    import numpy as np

    from loraudit.training.captions import trigger

    return trigger(np.random.default_rng(secrets.randbits(128)))


def _jobs() -> Any:  # noqa: ANN401
    """The module that does the work, loaded late: it brings torch."""
    try:
        from loraudit.training import jobs
    except ModuleNotFoundError as error:
        raise LorauditError(
            f"training needs {error.name}, which is not installed",
            "install it with: pip install 'loraudit[attack]'",
        ) from None
    return jobs
