"""Refusals of a base, in one line each, and silence of the libraries that load it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from loraudit.base.memory import is_out_of_memory
from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = ["quiet", "refuse", "refusing"]

_LIBRARIES: Final = ("diffusers", "transformers", "accelerate", "huggingface_hub")
_HINT: Final = "it is not a complete Stable Diffusion 1.x pipeline in safetensors"


def refuse(shown: str, why: str) -> NoReturn:
    """Raise `LorauditError`: the base `shown` cannot be loaded, and `why`."""
    raise LorauditError(f"cannot load the base '{clean(shown)}': {why}", _HINT)


@contextmanager
def refusing(shown: str) -> Iterator[None]:
    """Raise `LorauditError` for whatever the libraries raise at the base `shown`.

    A lack of memory is left to `memory_may_run_out`.
    """
    try:
        yield
    except LorauditError:
        raise
    except Exception as error:  # the libraries raise errors of any class at what they do not expect
        if is_out_of_memory(error):
            raise
        raise LorauditError(f"cannot load the base '{clean(shown)}'", _HINT) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log lines and warnings of the libraries off stderr; what matters of them is one error of ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # The first question makes a library set up its logger.
    for library in (diffusers_logging, transformers_logging):
        library.get_verbosity()
    # transformers shows a bar for each file of weights, which is read faster than the bar is seen.
    transformers_logging.disable_progress_bar()
    loud = [(one, one.level) for one in map(logging.getLogger, _LIBRARIES)]
    for one, _ in loud:
        one.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in loud:
            one.setLevel(level)
