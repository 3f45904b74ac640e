"""Words that no output may show: secrets, and the words that a stranger's file is made of.

`mask` is for texts that may be shown on demand: whatever is asked for, a secret in them stays hidden.
`named` is for names out of a file that stand in a message: a tensor, a type, a field. Of such a name only
the words of trainers and networks are kept, so that a message may be printed anywhere.
"""

from loraudit.hiding.masks import mask, masked, secrets
from loraudit.hiding.names import HIDDEN, is_public, named

__all__ = ["HIDDEN", "is_public", "mask", "masked", "named", "secrets"]
