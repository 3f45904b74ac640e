"""Evidence in, findings out, and the report that holds them. Standard library only; the one thing reports
see.

`evidence` is what an attack brought back and its statistics, `policy` judges it, `rules` words it, `table`
lists every number, `metadata` judges and words what a file says, `vocabulary` is what they are all put in.
"""

from loraudit.findings.evidence import (
    AttackEvidence,
    Comparison,
    Faces,
    Reading,
    Share,
    accepted_share,
    accepted_test,
    agreement_share,
    agreement_test,
    mean_interval,
    quantile,
    wilson_interval,
)
from loraudit.findings.metadata import METADATA_RULES, MetadataRule, Trace, judge_metadata
from loraudit.findings.policy import Policy, judge
from loraudit.findings.rules import Rule
from loraudit.findings.table import score_table
from loraudit.findings.vocabulary import (
    Confidence,
    EncoderUsed,
    Exit,
    Finding,
    Gap,
    Modules,
    Report,
    Score,
    Settings,
    Severity,
    Target,
    Verdict,
    combine_exit_codes,
    exit_code,
    unscannable,
)

__all__ = [
    "METADATA_RULES",
    "AttackEvidence",
    "Comparison",
    "Confidence",
    "EncoderUsed",
    "Exit",
    "Faces",
    "Finding",
    "Gap",
    "MetadataRule",
    "Modules",
    "Policy",
    "Reading",
    "Report",
    "Rule",
    "Score",
    "Settings",
    "Severity",
    "Share",
    "Target",
    "Trace",
    "Verdict",
    "accepted_share",
    "accepted_test",
    "agreement_share",
    "agreement_test",
    "combine_exit_codes",
    "exit_code",
    "judge",
    "judge_metadata",
    "mean_interval",
    "quantile",
    "score_table",
    "unscannable",
    "wilson_interval",
]
