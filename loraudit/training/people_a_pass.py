"""The number of people that are fine-tuned together: what one person takes, and the memory that is free.

A step of fine-tuning keeps tensors for its backward pass, in proportion to the people who share it. One
person's are counted on the base itself, in a single step. At SD 1.x's shapes with the paper's recipe they are
2.6 GiB: two samples of 512 pixels in float32 (`benchmarks/training_cost.py`). On the embedded base a step's
peak is 1.05 times what it keeps.

The rule: as many people as keep at most `TAKEN` of the free memory, at least one and at most `MOST`. The rest
is for gradients, for the kernels' own room and for what the libraries hold. The number stands in the zoo's
plan before the first pass, so a build that goes on has the same passes whatever is free by then.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from loraudit.base.memory import free_memory
from loraudit.base.model import Base
from loraudit.training.finetune import Recipe, Subject, finetune, new_adapters

__all__ = ["MOST", "TAKEN", "kept_bytes", "people_a_pass", "people_for"]

MOST: Final = 32
"""People who share a pass, at most; on a CPU more make nobody's LoRA faster."""
TAKEN: Final = 0.6
"""Share of the free memory that what a step keeps may take."""
_COPIES: Final = 4
"""Numbers for each entry of a matrix: itself, its gradient and AdamW's two moments."""


def people_a_pass(base: Base, recipe: Recipe) -> int:
    """Count the people to fine-tune together on `base` by `recipe`, 1 to `MOST`."""
    return people_for(free_memory(base.device), kept_bytes(base, recipe))


def people_for(free: int | None, each: int) -> int:
    """Count the people of `each` bytes for `free` bytes of memory; `MOST` where nobody knows the latter."""
    return MOST if free is None else max(1, min(MOST, int(TAKEN * free) // each))


def kept_bytes(base: Base, recipe: Recipe) -> int:
    """Count the bytes of one person: tensors kept for a backward pass, matrices, gradients and moments.

    A single step of fine-tuning is run. Weights of the base are left out.
    """
    latents = torch.zeros(1, *base.latent_shape, device=base.device)
    adapters = new_adapters(base, recipe, [0])
    modules = (base.unet, base.text_encoder)
    weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
    known = {tensor.untyped_storage().data_ptr() for tensor in (*weights, *adapters.parameters)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            # Several tensors may be views of one storage.
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    subject = Subject(latents, recipe.class_prompt, 0)
    prior = latents if recipe.prior_weight else None
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        next(finetune(base, [subject], replace(recipe, steps=1), prior, adapters))
    return sum(kept.values()) + _COPIES * sum(matrix.nbytes for matrix in adapters.parameters)
