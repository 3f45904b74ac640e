"""The command `rules`: one rule or all rules, as text, JSON or the page docs/rules.md."""

import json
import re
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Final

import typer

from loraudit.cli.console import emit, render, width
from loraudit.errors import LorauditError
from loraudit.findings.finding import Severity
from loraudit.text import clean
from loraudit.verdict.catalogue import Explained
from loraudit.verdict.policy import Policy
from loraudit.verdict.standards import SCHEMES

__all__ = ["find_rule", "rules", "rules_json", "rules_markdown", "rules_text"]

EXAMPLES: Final = ("loraudit rules", "loraudit rules LA-NAME-001")
SCHEMA: Final = "loraudit.rules/1"
_WEIGHTS: Final = ("LA-IDENTITY-", "LA-COPY-")
_CODE: Final = re.compile(
    r"(?<!\w)'(?P<quoted>[^']+)'(?!\w)"
    r"|loraudit scrub FILE -o OUT"
    r"|(?<!\w)--[a-z]+(?:-[a-z]+)*(?: (?:PHOTOS|DIR|deep))?"
    r"|\b(?:modelspec\.\w+|[a-z]+_\w+|sshs_\*)"
    r"|(?:/home|C:|\\\\)\S*…"
)
_PREFACE: Final = """\
# Rules

<!-- Made by `loraudit rules --format markdown`; the words are in loraudit/metadata and loraudit/verdict. -->

Each finding of `loraudit scan` has a stable id. Metadata findings come from what the file says, at every
`--depth`. Findings of identities and copies come from attacks on its weights. The severity of the worst
finding is the verdict, and `--fail-on` compares with the verdict.

Words of the file (names, captions, paths) are hidden in files and pipes unless `--reveal` is given. A
secret is never shown in full.

A scan of a file reads:

- the header's metadata, values that a second one of the same name replaced included. Keys inside JSON are
  read as those outside: of a merge, all metadata of its sources in `sshs_cp0` and so on, object or text.
  JSON as a text, base64 and the escapes of addresses are undone first, up to six of them. In other texts the
  lines `key: value` and `key = value` and the arguments of commands count as keys;
- the tensor names and the file name;
- `adapter_config.json`, read like a side file, and the front matter of `README.md`;
- side files of the LoRA's name: `.civitai.info`, `.cm-info.json`, `.metadata.json`, `.json`, `.txt`,
  `.description.txt` and `.md`, at most 1 MB each;
- pictures in the folder and the folders in it, or, of a single file, its previews: their names, and the texts
  in PNG, JPEG, WebP, GIF, TIFF, HEIC and AVIF (text chunks, comments, Exif, IPTC, XMP);
- the same texts in pictures inside a value of the header or of a side file, as base64 or as a data URL: the
  first 100 of the header, and of the files beside it;
- prompts in the lowest bits of PNG pixels, alpha or colours, as AUTOMATIC1111's stealth PNG info and NovelAI
  hide them: signature, length and text, at most 64 kB packed;
- captions, `.txt` or `.caption`, of those pictures, and what photo programs and exports of albums write about
  one of them beside it: `.xmp` and `.json` of the picture's name, at most 1 MB each;
- the names of archives and pickle files, which are never opened.

Several LoRAs in one folder each get the pictures there that bear no other LoRA's name. Folders that hold
LoRAs of their own, hidden folders and links to folders are passed over.

A scan names what it does not read:

- pictures in and beside the file and films of any other format, and what is past the limits of LA-HIDDEN-002,
  are *not looked at*. The audit is then incomplete (exit code 4);
- so are pixels where a prompt may hide that were not searched: WebP and TIFF with an alpha channel, PNG that
  is interlaced or too large;
- archives and caches (LA-BESIDE-001) and pickles (LA-PICKLE-001) are never opened.

A scan says nothing of these, and reads none of them:

- other files beside the LoRA: notes, scripts, configurations of trainers, tables such as `metadata.jsonl`,
  captions without a picture;
- the body of `README.md`, and in its front matter the tags of the Hub;
- what a picture shows, what follows its end, and chunks that its format does not have for words;
- the pixels of pictures other than PNG, unless they have an alpha channel, which is named;
- names of base models and licences, apart from paths, addresses and secrets in them;
- a single word under a key that says nothing about it;
- a word between the layers in a tensor's name, which `scrub` counts. A scan of the weights names such
  tensors, which are not read.

Of a LoRA on the Hub, its `README.md` and `adapter_config.json` are fetched, at most 1 MB each; with
`--offline`, those that the cache has. No decoder of pictures runs, and nothing is unpickled.

A file without such words has no finding: `pytorch_lora_weights.safetensors` as diffusers saves it, or a copy
by `loraudit scrub`. A scrubbed copy keeps its tensors' names, because loaders find the tensors by them.
Only the name of an adapter in them becomes `default`.
Should a name say something, the report of `scrub` says so under *Still there*. What lies beside the file is
never changed: take it out there, or do not share it.
"""

_STANDARDS: Final = """\
## Standards

Each rule has ids of public catalogues of risks, for tools that sort and count by them. They are in JSON,
HTML, Markdown and SARIF, where GitHub shows the CWE. The ids say what kind of risk a finding is, not how
grave it is. Two entries of MITRE ATLAS, AML.T0024.000 and .001, speak of attacks through an interface. Here
the whole file is at hand, which is AML.T0044. [why.md](why.md) has pointers to the law.
"""


class RulesFormat(StrEnum):
    """The values of `--format`."""

    text = "text"
    json = "json"
    markdown = "markdown"


def rules(
    rule: Annotated[
        str | None, typer.Argument(help="Id of one rule, such as LA-NAME-001. [default: list all]")
    ] = None,
    format: Annotated[  # noqa: A002
        RulesFormat, typer.Option("--format", "-f", help="Format of the output.")
    ] = RulesFormat.text,
) -> None:
    """Explain the rules behind the findings."""
    from loraudit.verdict.catalogue import catalogue

    every = catalogue()
    shown = every if rule is None else (find_rule(every, rule),)
    if format is RulesFormat.json:
        emit(rules_json(shown), None)
    elif format is RulesFormat.markdown:
        emit(rules_markdown(shown), None)
    else:
        emit(rules_text(shown, width=width(None)), None)


def find_rule(rules: Sequence[Explained], asked: str) -> Explained:
    """Find the rule with the id `asked`, in any case. Raises `LorauditError` if no rule has that id."""
    for rule in rules:
        if rule.id == asked.upper():
            return rule
    ids = [rule.id for rule in rules]
    near = get_close_matches(asked.upper(), ids, 3)
    raise LorauditError(
        f"there is no rule {clean(asked)}",
        f"did you mean {' or '.join(near)}?" if near else "'loraudit rules' lists them all",
    )


def rules_text(rules: Sequence[Explained], *, width: int) -> str:
    """List several rules, or explain a single one, in at most `width` columns."""
    return _list(rules, width) if len(rules) != 1 else _whole(rules[0], width)


def rules_json(rules: Sequence[Explained]) -> str:
    """Write the document `loraudit.rules/1`."""
    document = {
        "schema": SCHEMA,
        "policy": Policy().version,
        "rules": [
            {
                "id": rule.id,
                "title": rule.title,
                "levels": [
                    {"severity": severity.value, "when": when or None}
                    for severity, when in rule.levels.items()
                ],
                "looks_at": rule.looks_at,
                "meaning": rule.meaning,
                "remedy": rule.remedy,
                "standards": [
                    {"scheme": entry.scheme, "id": entry.id, "title": entry.title, "url": entry.url}
                    for entry in rule.standards
                ],
            }
            for rule in rules
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def rules_markdown(rules: Sequence[Explained]) -> str:
    """Write the page docs/rules.md: an anchor for each rule."""
    words = [rule for rule in rules if not rule.id.startswith(_WEIGHTS)]
    weights = [rule for rule in rules if rule.id.startswith(_WEIGHTS)]
    parts = [_PREFACE, "## What the file says\n", *map(_section, words)]
    parts += [
        f"## What the weights give away\n\nThe levels are those of policy {Policy().version}, whose number "
        "stands in every finding. The strongest attack speaks.\n",
        *map(_section, weights),
        _standards(rules),
    ]
    return "\n".join(parts)


def _standards(rules: Sequence[Explained]) -> str:
    """Write the table of all entries of public catalogues that `rules` belong to."""
    entries = {entry.id: entry for rule in rules for entry in rule.standards}
    lines = [_STANDARDS, "| id | in | title |", "|---|---|---|"]
    for scheme in SCHEMES.values():
        lines += [
            f"| [{one.id}]({one.url}) | {scheme.name} {scheme.version} | {one.title} |"
            for one in sorted(entries.values(), key=lambda entry: entry.id)
            if one.scheme == scheme.name
        ]
    return "\n".join([*lines, ""])


def _section(rule: Explained) -> str:
    lines = [f"### {rule.id}", "", f"**{_inert(rule.title)}.** {_inert(rule.meaning)}", ""]
    lines += [f"*Looked at:* {_inert(rule.looks_at)}", ""]
    if len(rule.levels) == 1:
        lines += [f"*Level:* **{next(iter(rule.levels)).value}**.", ""]
    else:
        lines += ["| level | when |", "|---|---|"]
        lines += [f"| **{severity.value}** | {_inert(when)} |" for severity, when in rule.levels.items()]
        lines.append("")
    lines += [f"*What to do:* {_inert(rule.remedy)}", ""]
    lines += [f"*Standards:* {', '.join(entry.id for entry in rule.standards)}.", ""]
    return "\n".join(lines)


def _inert(text: str) -> str:
    """Turn plain words into Markdown: names, options and quoted words as code, no other mark-up."""
    coded = _CODE.sub(lambda found: f"`{found['quoted'] or found[0]}`", text)
    return coded.replace("|", r"\|").replace("<=", "≤")


def _list(rules: Sequence[Explained], width: int) -> str:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for rule in rules:
        table.add_row(rule.id, _span(rule), rule.title)
    return f"{render(table, width=max(60, width))}\nMore about one rule: loraudit rules ID\n"


def _span(rule: Explained) -> str:
    """Name the mildest and the gravest level: `low to high`."""
    graded = sorted(level for level in rule.levels if level is not Severity.INCONCLUSIVE)
    if not graded:
        return Severity.INCONCLUSIVE.value
    first, last = graded[0].value, graded[-1].value
    return first if first == last else f"{first} to {last}"


def _whole(rule: Explained, width: int) -> str:
    lines = [f"{rule.id}  {rule.title}", "", *_wrapped(rule.meaning, width), ""]
    lines += ["Looked at", *_wrapped(rule.looks_at, width, "  "), "", "Levels"]
    for severity, when in rule.levels.items():
        lines += _wrapped(f"{severity.value}{': ' if when else ''}{when}", width, "  ")
    lines += ["", "To do", *_wrapped(rule.remedy, width, "  "), "", "Standards"]
    for entry in rule.standards:
        lines += _wrapped(f"{entry.id}: {entry.title}", width, "  ")
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, max(40, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
