"""Judgement of what a file says in plain words: from traces to findings.

A trace is one text somewhere in or beside a LoRA file that says something about a person. The rules and their
ids are stable; docs/rules.md explains each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from loraudit.findings.finding import Confidence, Finding, Severity

__all__ = ["METADATA_RULES", "MetadataRule", "Trace", "judge_metadata"]

_QUOTES = 8
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""Rank of each severity, to compare thousands of captions fast."""
_SCRUB = "Write a copy without it: loraudit scrub FILE -o OUT."
_BESIDE = "What lies beside the file is not scrubbed: take it out there, or do not share that."


@dataclass(frozen=True)
class MetadataRule:
    """Question that is asked of a file's words."""

    id: str
    """Stable id, never reused for another question."""
    title: str
    summary: str
    """Sentence of the verdict."""
    meaning: str
    """Consequence for the people concerned."""
    remedy: str
    title_beside: str = ""
    """Title if all traces lie beside the file; empty: `title` with other words."""
    meaning_beside: str = ""
    """Meaning if all traces lie beside the file; empty: `meaning`."""


class Trace(NamedTuple):
    """Text that says something about a person, or several of a kind, and their place."""

    rule: str
    """Id of a rule in `METADATA_RULES`."""
    severity: Severity
    place: str
    """Place in words of ours, never of the file: a known key, `file name`, `adapter_config.json`."""
    quote: str = ""
    """Text itself, escaped for display; empty if there is nothing worth quoting."""
    confidence: Confidence = Confidence.HIGH
    numbers: Mapping[str, int] = MappingProxyType({})
    beside: bool = False
    """True if the text is in another file, which a scrubbed copy does not change."""
    more: tuple[str, ...] = ()
    """Further texts, escaped for display: a folder of pictures has hundreds of captions."""


METADATA_RULES: Mapping[str, MetadataRule] = {
    rule.id: rule
    for rule in (
        MetadataRule(
            "LA-NAME-001",
            "The training folders name the subject",
            "The file names whom or what it was trained on.",
            "Trainers copy the names of the photo folders, and of bundled embeddings, into the file. Whoever "
            "downloads it reads whom it shows, and has the words that call the person up.",
            f"{_SCRUB} An embedding's name is in the tensor names and stays: train without it.",
            "Pictures beside the file name people",
            "Photo programs write the names of people into the picture, often with the place of the face. "
            "Trainers want folders of pictures named after them. Whoever gets the folder reads whom it "
            "shows.",
        ),
        MetadataRule(
            "LA-NAME-002",
            "The name of the model may name its subject",
            "The name of the model may name whom it was trained on.",
            "The trainer wrote the name it was given into the file, where renaming the file does not change "
            "it.",
            f"{_SCRUB} Give the new file another name.",
        ),
        MetadataRule(
            "LA-CAPTION-001",
            "The captions of the training pictures are in the file",
            "The file tells what was written about the training pictures.",
            "Captions describe each picture: who, where, wearing what. They also are the prompts under which "
            "the pictures come back best.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-CAPTION-002",
            "Trigger words or notes are in the file",
            "The file gives away its trigger words or notes.",
            "With the trigger word an adversary need not guess how to call the subject up. Notes say what "
            "their author thought nobody would read.",
            f"{_SCRUB} Keep them if users of the file need them.",
        ),
        MetadataRule(
            "LA-IMAGE-001",
            "Pictures are embedded in the file",
            "The file holds pictures.",
            "A thumbnail or cover may be a training photo or a likeness, and few programs show that it is "
            "there.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-IMAGE-002",
            "Pictures lie beside the file",
            "Pictures beside the file may be shared with it.",
            "Samples and previews show the subject, and carry prompts and camera data of their own.",
            "Look at each before the folder is shared.",
        ),
        MetadataRule(
            "LA-IMAGE-003",
            "A picture in the file tells where it was taken",
            "Pictures in the file tell where they were taken.",
            "Telephones and cameras write coordinates into the photo: of a home, of a school. They are not "
            "shown here.",
            f"{_SCRUB} A picture that is saved without its Exif data tells no place.",
        ),
        MetadataRule(
            "LA-PICKLE-001",
            "Pickle files lie beside the file and were not opened",
            "Pickle files lie beside the file. Nobody looked at what they hold.",
            "A pickle can hold the same weights and words, or run a program when it is loaded. So loraudit "
            "never opens one, and this report says nothing about them.",
            "Take them out before the folder is shared, or save them as .safetensors files and scan those.",
        ),
        MetadataRule(
            "LA-BESIDE-001",
            "Archives lie beside the file and were not opened",
            "Archives or caches lie beside the file. Nobody looked at what they hold.",
            "An archive or a cache may hold the training photos.",
            "Look into the archives. Share the safetensors file alone.",
        ),
        MetadataRule(
            "LA-PATH-001",
            "Paths of the trainer's computer are in the file",
            "The file holds paths of the computer it was made on.",
            "A path holds names of accounts, often of real people, of projects and of computers.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-CONTACT-001",
            "The file says who made it or how to reach somebody",
            "The file names its author or an address.",
            "An e-mail address, a telephone number, a profile or an author's name ties the file to a person.",
            f"{_SCRUB} Keep it if you want to be found.",
        ),
        MetadataRule(
            "LA-SECRET-001",
            "A password or access token is in the file",
            "The file holds what looks like a secret: a token, a key or a password.",
            "Whoever has the file can use it.",
            f"Revoke it now, whether or not the file has been shared. {_SCRUB}",
        ),
        MetadataRule(
            "LA-LINK-001",
            "The file can be linked to other files of the same trainer",
            "The file can be tied to other files by the same person.",
            "Session numbers, seeds, hashes and times of a training run are equal, or fit together, in all "
            "files that came out of it: a file shared under another name can be tied to this one.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-LINK-002",
            "The file gives away the time zone it was made in",
            "The file gives away the trainer's time zone.",
            "A local time beside the same moment in UTC tells the part of the world.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-DATASET-001",
            "The file says how many pictures it was trained on",
            "The file says how many pictures it was trained on, and how often it saw each.",
            "Few pictures seen many times are remembered better: it tells an adversary that trying pays.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-HIDDEN-001",
            "The header holds text that no program shows",
            "The file holds text that no program shows.",
            "Values that a second one replaced, fields that mean nothing and opaque blocks stay in the file "
            "unseen, whatever they are.",
            _SCRUB,
        ),
        MetadataRule(
            "LA-HIDDEN-002",
            "Part of the metadata could not be read",
            "Part of the metadata could not be read: this scan cannot tell what it says.",
            "It is broken, nested without end, or too long to look through.",
            _SCRUB,
        ),
    )
}
"""Rules by their ids."""


def judge_metadata(traces: Iterable[Trace]) -> tuple[Finding, ...]:
    """Make one finding for each rule that `traces` met, as severe and as sure as the worst of its traces."""
    found: dict[str, list[Trace]] = {}
    for trace in traces:
        found.setdefault(trace.rule, []).append(trace)
    return tuple(_finding(METADATA_RULES[rule], together) for rule, together in sorted(found.items()))


def _finding(rule: MetadataRule, traces: list[Trace]) -> Finding:
    worst = max(traces, key=lambda trace: _RANK[trace.severity])
    sure = any(t.confidence is Confidence.HIGH for t in traces if t.severity is worst.severity)
    places = list(dict.fromkeys(trace.place for trace in traces))
    quoted = (quote for trace in traces for quote in (trace.quote, *trace.more))
    quotes = tuple(dict.fromkeys(filter(None, quoted)))
    more = f" The first {_QUOTES} of {len(quotes)} texts are kept." if len(quotes) > _QUOTES else ""
    numbers: dict[str, float | int | str | None] = {"texts": len(quotes)} if quotes else {}
    for trace in traces:
        numbers |= trace.numbers
    title, summary, meaning, remedy = rule.title, rule.summary, rule.meaning, rule.remedy
    if all(trace.beside for trace in traces):
        title, summary = rule.title_beside or _beside(title), _beside(summary)
        meaning = rule.meaning_beside or meaning
        remedy = _BESIDE if rule.meaning_beside else remedy.replace(_SCRUB, _BESIDE)
    elif any(trace.beside for trace in traces):
        remedy = remedy.replace(_SCRUB, f"{_SCRUB} {_BESIDE}")
    return Finding(
        rule.id,
        worst.severity,
        Confidence.HIGH if sure else worst.confidence,
        title,
        f"Found in {_listed(places)}. {meaning}{more}",
        remedy,
        summary,
        numbers,
        quotes[:_QUOTES],
        tuple(places),
    )


def _beside(words: str) -> str:
    """Reword `words` about a file for what lies beside the file."""
    if words.startswith("The file "):
        return f"What lies beside the file {words.removeprefix('The file ')}"
    return words.replace(" in the file", " beside the file")


def _listed(places: list[str]) -> str:
    return places[0] if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]}"
