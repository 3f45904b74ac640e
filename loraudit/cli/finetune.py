"""The command `finetune`."""

import secrets
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loraudit.cli.choices import (
    BaseOption,
    DeviceOption,
    Layout,
    NoProgressOption,
    OfflineOption,
    QuietOption,
    check_base,
    given,
)
from loraudit.cli.console import say, write_error
from loraudit.cli.progress import progress
from loraudit.text import clean

__all__ = ["finetune"]

EXAMPLES: Final = ("loraudit finetune photos/ -o lora.safetensors",)


def finetune(
    images: Annotated[list[Path], typer.Argument(help="Pictures of one person: files or a folder.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="LoRA file to write; a folder for peft.", show_default=False),
    ],
    base: BaseOption = "tiny",
    layout: Annotated[
        Layout, typer.Option("--layout", help="Layout of the file: how it names its matrices.")
    ] = Layout.diffusers,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Trigger word. [default: 4 to 11 random letters, which stderr shows even with --quiet]",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help='Caption of the pictures. [default: "A face of NAME."]')
    ] = None,
    class_prompt: Annotated[
        str | None,
        typer.Option("--class-prompt", help='Caption of the class pictures. [default: "A human face."]'),
    ] = None,
    no_prior: Annotated[
        bool, typer.Option("--no-prior", help="Train without class pictures (no prior preservation).")
    ] = False,
    class_images: Annotated[
        int | None, typer.Option("--class-images", help="Number of class pictures. [default: 200; tiny 64]")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="UNet module to adapt; repeatable. [default: to_q, to_v]"),
    ] = None,
    no_text_encoder: Annotated[
        bool, typer.Option("--no-text-encoder", help="Adapt the UNet only, not the text encoder.")
    ] = False,
    rank: Annotated[int, typer.Option("--rank", help="Rank of every module.")] = 16,
    alpha: Annotated[float, typer.Option("--alpha", help="LoRA alpha of the UNet.")] = 27,
    text_alpha: Annotated[float, typer.Option("--text-alpha", help="LoRA alpha of the text encoder.")] = 17,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate of the UNet. [default: 1e-4; tiny 3e-3]")
    ] = None,
    text_lr: Annotated[
        float | None,
        typer.Option("--text-lr", help="Learning rate of the text encoder. [default: --lr; tiny 1e-4]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Training steps. [default: 1000; tiny 350]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Pictures per training step. [default: 1; tiny 2]")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Random seed for initialization, noise and data order.", min=0)
    ] = 0,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    _quiet: QuietOption = False,
    _no_progress: NoProgressOption = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a LoRA that exists.")] = False,
) -> None:
    """Train a LoRA on pictures of one person (DreamBooth).

    The recipe is that of arXiv 2409.08482, which --target, --rank and other options change.
    """
    from loraudit.training.checks import check_output, check_targets

    check_base(base)
    check_output(output, layout.value, force)
    check_targets(base, target or ())
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
    from loraudit.training.finetune_job import FinetuneJob, finetune_images

    # Nothing but this line tells a random name.
    tell = say if name or prompt is not None else write_error
    if prompt is None:
        from loraudit.people.captions import instance_prompt

        prompt = instance_prompt(name or _random_name())
    tell(f"instance prompt: {prompt}")
    job = FinetuneJob(images, output, layout.value, given(changes), prompt, seed)
    with progress("loading the base model") as on_step:
        made = finetune_images(base, device, offline, job, on_step)
    say(
        f"wrote {clean(str(made.output), 300)}: {made.size_bytes / 1e6:.1f} MB, {made.modules} modules at "
        f"rank {made.rank}, after {made.steps} steps"
    )


def _random_name() -> str:
    """Draw the paper's 4 to 11 lower-case letters from the system's entropy.

    The name is a secret, so `--seed`, which can be guessed, must not decide it.
    """
    import numpy as np

    from loraudit.people.captions import trigger

    return trigger(np.random.default_rng(secrets.randbits(128)))
