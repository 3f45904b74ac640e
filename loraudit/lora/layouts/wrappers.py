"""Words in tensor names that tell how a model was wrapped when it was saved, not which module is meant.

`torch.compile` puts `_orig_mod` before the model's own names, `DataParallel` puts `module` there. diffusers
0.23 wrote `unet.` twice. peft's `base_model.model.` occurs on either side of the component's name, and twice
if an adapter was put on an adapted model. No module of a base has one of these names.
"""

import re
from typing import Final

__all__ = ["unwrapped"]

_SEGMENT: Final = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module)\.")
_TWICE: Final = re.compile(r"^(unet|text_encoder)\.(?:\1\.)+")
_PART: Final = r"(?:(?:unet|text_encoder)\.)?"
_PEFT: Final = re.compile(rf"^{_PART}(?:base_model\.model\.)+{_PART}")


def unwrapped(key: str) -> str:
    """Spell the tensor name `key` as it would be without wrappers; a name without any stays as it is."""
    if "_orig_mod" in key or "module." in key:
        # kohya-ss/sd-scripts writes the same words with underscores.
        key = _SEGMENT.sub("", key).replace("_orig_mod_", "")
    if "base_model.model." in key:
        return _PEFT.sub("base_model.model.", key)
    return _TWICE.sub(r"\1.", key)
