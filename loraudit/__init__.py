"""loraudit plays the strongest adversary it can against a LoRA file and reports what came back.

The public names load on first use: `import loraudit` costs neither numpy nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.audit import audit_lora
    from loraudit.errors import Incomplete, LorauditError, NotScannable
    from loraudit.findings import Finding, Report, Severity
    from loraudit.lora import LoRA, load_lora

__all__ = [
    "Finding",
    "Incomplete",
    "LoRA",
    "LorauditError",
    "NotScannable",
    "Report",
    "Severity",
    "__version__",
    "audit_lora",
    "load_lora",
]

__version__ = "0.1.0"

_HOMES = {
    "Incomplete": "loraudit.errors",
    "LorauditError": "loraudit.errors",
    "NotScannable": "loraudit.errors",
    "Finding": "loraudit.findings",
    "Report": "loraudit.findings",
    "Severity": "loraudit.findings",
    "audit_lora": "loraudit.audit",
    "LoRA": "loraudit.lora",
    "load_lora": "loraudit.lora",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'loraudit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
