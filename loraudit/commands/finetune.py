"""The command `finetune`."""

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from loraudit.commands.layouts import Layout
from loraudit.commands.training import BaseOption, DeviceOption, OfflineOption, given, training_module

__all__ = ["finetune"]


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
    job = training_module("finetune_job")
    job.check_output(output, layout.value, force)
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
        from loraudit.people.captions import instance_prompt

        prompt = instance_prompt(name or _random_name())
    # A seed that can be guessed may make the pictures; what the person is called must not come from it.
    sys.stderr.write(f"instance prompt: {prompt}\n")
    job.finetune_images(
        training_module("defaults").training_base(base, device, offline),
        images,
        output,
        layout.value,
        given(changes),
        prompt,
        seed,
        force,
    )


def _random_name() -> str:
    """The paper's 4 to 11 lower-case letters, from the system's entropy: a trigger is a secret."""
    import numpy as np

    from loraudit.people.captions import trigger

    return trigger(np.random.default_rng(secrets.randbits(128)))
