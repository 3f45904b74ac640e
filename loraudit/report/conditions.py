"""Conditions of a scan in the report document: how far it looked, with what, and what that cost."""

from typing import Final

from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations, Settings, StatedBase
from loraudit.report.kinds import Choice, Count, Flag, Text
from loraudit.report.shapes import Many, Member, Object

__all__ = ["SHA256", "SettingsV1"]

SHA256: Final = Text(null=True, pattern="^[0-9a-f]{64}$", due="a SHA-256", name="sha256_or_null")
"""Hash of a file, hex."""
_TEXT, _TEXT_OR_NULL, _TEXTS = Text(), Text(null=True), Many(Text())

_ENCODER: Final = Object(
    EncoderUsed,
    {
        "name": Member(_TEXT),
        # No scan has ever written null here.
        "sha256": Member(SHA256, never_null=True),
    },
    null=True,
)

_EVALUATIONS: Final = Object(
    Evaluations,
    {
        "spent": Member(Count()),
        "most": Member(Count()),
    },
    null=True,
)

_CALIBRATION: Final = Object(
    CalibrationUsed,
    {
        "name": Member(_TEXT),
        "controls": Member(Count()),
        "unused": Member(_TEXT_OR_NULL),
    },
    null=True,
)

_STATED_BASE: Final = Object(
    StatedBase,
    {
        "agrees": Member(Flag(), "Whether it is the base of the scan, by name or by hash."),
        "shown": Member(_TEXT, "Its name where the words are known, or the start of its hash."),
        "quotes": Member(_TEXTS, "Private words of the file, with --reveal alone.", late=True),
    },
    null=True,
)

SettingsV1: Final = Object(
    Settings,
    {
        "depth": Member(Choice(("metadata", "weights", "attack")), "How far the scan looked."),
        "pictures": Member(
            Flag(), "False where the scan was to draw no picture, and drew none.", late=True, left_out=True
        ),
        "base": Member(_TEXT_OR_NULL),
        "base_fingerprint": Member(
            SHA256,
            "SHA-256 of the base's weights: equal for a folder, a single file, float32 and float16.",
            late=True,
            left_out=True,
        ),
        "stated_base": Member(
            _STATED_BASE, "Base that the file says it was made on.", late=True, left_out=True
        ),
        "encoder": Member(_ENCODER),
        "attacks": Member(_TEXTS),
        "skipped": Member(_TEXTS, "Attacks that were not needed any more."),
        "seeds": Member(Many(Count(told=False))),
        "budget": Member(_TEXT_OR_NULL),
        "evaluations": Member(_EVALUATIONS, "Of the base model's network."),
        "calibration": Member(
            _CALIBRATION,
            "Calibration data at hand; unused: why they do not fit this scan, null if they do.",
        ),
        "device": Member(_TEXT_OR_NULL),
        "dtype": Member(_TEXT, "Type of the base's numbers.", late=True, left_out=True),
        "rules": Member(_TEXT, "The rules that count, if not all do.", late=True, left_out=True),
    },
    name="settings",
)
"""The conditions of a scan."""
