"""Evidence in, findings out, and the report that holds them. Standard library only; the one thing reports
see.

`evidence` is what an attack brought back and its statistics, `null` what control LoRAs score, `policy`
judges, `likelihood` is the test without pictures, `copies` looks for the photos among the pictures,
`stopping` says when more pictures would change nothing, `rules` words it, `table` lists every number,
`metadata` judges and words what a file says, `catalogue`, loaded on its own, explains every rule, `exhibits`
is shown beside findings, `vocabulary` and `conditions` are what they are all put in, `exits` the exit codes,
`fingerprints` which finding is the same as an earlier one.

The public names load on first use: a scan of words alone needs no statistics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.findings.conditions import CalibrationUsed, EncoderUsed, Evaluations, Settings
    from loraudit.findings.copies import Copies, copied_share, judge_copies
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
    )
    from loraudit.findings.exhibits import Distribution, ModuleNorm, Sheet, SheetRow
    from loraudit.findings.exits import Exit, combine_exit_codes, exit_code
    from loraudit.findings.fingerprints import fingerprint
    from loraudit.findings.intervals import mean_interval, quantile, wilson_interval
    from loraudit.findings.judging import judge
    from loraudit.findings.likelihood import Likelihood, judge_likelihood, likelihood_score
    from loraudit.findings.metadata import METADATA_RULES, MetadataRule, Trace, judge_metadata
    from loraudit.findings.null import Null, agreement_score, conformal_p, distributions, likeness_score
    from loraudit.findings.policy import Policy
    from loraudit.findings.rules import Rule
    from loraudit.findings.stopping import enough, looks, settled
    from loraudit.findings.table import leading_attack, score_table
    from loraudit.findings.vocabulary import (
        Allowed,
        Confidence,
        Finding,
        Gap,
        Modules,
        Report,
        Score,
        Severity,
        Target,
        Verdict,
        unscannable,
    )

__all__ = [
    "METADATA_RULES",
    "Allowed",
    "AttackEvidence",
    "CalibrationUsed",
    "Comparison",
    "Confidence",
    "Copies",
    "Distribution",
    "EncoderUsed",
    "Evaluations",
    "Exit",
    "Faces",
    "Finding",
    "Gap",
    "Likelihood",
    "MetadataRule",
    "ModuleNorm",
    "Modules",
    "Null",
    "Policy",
    "Reading",
    "Report",
    "Rule",
    "Score",
    "Settings",
    "Severity",
    "Share",
    "Sheet",
    "SheetRow",
    "Target",
    "Trace",
    "Verdict",
    "accepted_share",
    "accepted_test",
    "agreement_score",
    "agreement_share",
    "agreement_test",
    "combine_exit_codes",
    "conformal_p",
    "copied_share",
    "distributions",
    "enough",
    "exit_code",
    "fingerprint",
    "judge",
    "judge_copies",
    "judge_likelihood",
    "judge_metadata",
    "leading_attack",
    "likelihood_score",
    "likeness_score",
    "looks",
    "mean_interval",
    "quantile",
    "score_table",
    "settled",
    "unscannable",
    "wilson_interval",
]

_HOMES = {
    name: home
    for home, names in {
        "conditions": "CalibrationUsed EncoderUsed Evaluations Settings",
        "copies": "Copies copied_share judge_copies",
        "evidence": (
            "AttackEvidence Comparison Faces Reading Share accepted_share accepted_test agreement_share "
            "agreement_test"
        ),
        "exhibits": "Distribution ModuleNorm Sheet SheetRow",
        "exits": "Exit combine_exit_codes exit_code",
        "fingerprints": "fingerprint",
        "intervals": "mean_interval quantile wilson_interval",
        "likelihood": "Likelihood judge_likelihood likelihood_score",
        "metadata": "METADATA_RULES MetadataRule Trace judge_metadata",
        "null": "Null agreement_score conformal_p distributions likeness_score",
        "judging": "judge",
        "policy": "Policy",
        "rules": "Rule",
        "stopping": "enough looks settled",
        "table": "leading_attack score_table",
        "vocabulary": (
            "Allowed Confidence Finding Gap Modules Report Score Severity Target Verdict unscannable"
        ),
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'loraudit.findings' has no attribute '{name}'")
    return getattr(import_module(f"loraudit.findings.{_HOMES[name]}"), name)
