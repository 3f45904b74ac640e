"""Privacy audit of LoRA files: loraudit plays the strongest adversary it can and reports what came back.

The public names load on first use: `import loraudit` costs neither numpy nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loraudit.version import __version__

if TYPE_CHECKING:
    from loraudit.audit.audit import audit_lora
    from loraudit.errors import Incomplete, LorauditError, NotScannable
    from loraudit.findings.finding import Finding, Severity
    from loraudit.findings.report import Report
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


_HOMES = {
    "Incomplete": "loraudit.errors",
    "LorauditError": "loraudit.errors",
    "NotScannable": "loraudit.errors",
    "Finding": "loraudit.findings.finding",
    "Report": "loraudit.findings.report",
    "Severity": "loraudit.findings.finding",
    "audit_lora": "loraudit.audit.audit",
    "LoRA": "loraudit.lora",
    "load_lora": "loraudit.lora",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'loraudit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
