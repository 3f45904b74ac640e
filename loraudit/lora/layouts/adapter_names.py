"""Names that people gave their adapters, which peft writes into the name of every tensor.

peft's `get_peft_model_state_dict` leaves the name out; a state dict that was saved without has it, as in
`x.lora_A.jane.weight`. (peft `utils/save_and_load.py`)
"""

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["adapter_names", "without_adapter_names"]

DEFAULT: Final = "default"
"""Name that peft gives an adapter itself."""
_NAMED: Final = re.compile(
    r"\.(?:lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|modules_to_save|"
    r"hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?)\.(?!(?:weight|bias|alpha)$)([^.\n]+)(?=\.(?:weight|bias)$|$)",
    re.MULTILINE,
)


def adapter_names(keys: Iterable[str]) -> list[str]:
    """List the names of adapters in the tensor names `keys`, sorted; peft's own `default` is left out."""
    return sorted(set(_NAMED.findall("\n".join(keys))) - {DEFAULT})


def without_adapter_names(keys: Iterable[str]) -> dict[str, str]:
    """Give each of `keys` the name that it has if adapters are called `default`, or numbered if several are.

    No two keys get the same name: the keys stay as they are if two would.
    """
    before = list(keys)
    names = sorted(set(_NAMED.findall("\n".join(before))))
    new = {name: DEFAULT if len(names) == 1 else f"adapter_{number}" for number, name in enumerate(names, 1)}
    after = [_NAMED.sub(lambda found: _renamed(found, new), key) for key in before]
    return dict(zip(before, after if len(set(after)) == len(set(before)) else before, strict=True))


def _renamed(found: re.Match[str], new: dict[str, str]) -> str:
    return found[0][: found.start(1) - found.start()] + new.get(found[1], found[1])
