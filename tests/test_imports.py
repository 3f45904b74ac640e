"""Imports go one way, and what needs no network of neurons loads none.

The order is that of the design: ground (errors, cards, findings, lora, base, lowrank, encoder, scores), two
wings over it (audit: attacks, audit; training), then experiments and the command line.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import loraudit

PACKAGE = Path(loraudit.__file__).parent

MAY_IMPORT = {
    "__init__": {"errors", "lora", "findings", "audit"},
    "__main__": {"cli"},
    "errors": set(),
    "cards": {"errors"},
    "findings": {"errors"},
    "lora": {"errors", "cards", "findings"},
    "bounded": {"errors", "lora"},
    "gate": {"errors", "findings", "lora", "bounded", "report"},
    "target": {"errors", "findings", "lora"},
    "extras": set(),
    "memory": {"errors"},
    "stock": {"errors", "cards", "lora"},
    "caching": {"errors", "cards", "lora", "stock"},
    "diagnosis": {"errors", "extras", "lora", "memory", "stock"},
    "base": {"errors", "cards", "lora", "lowrank", "memory", "base_passes", "base_schedule"},
    "base_passes": set(),
    "base_schedule": set(),
    "lowrank": {"errors", "cards", "lora"},
    "encoder": {"errors", "cards", "lora", "base", "lowrank"},
    "scores": {"errors", "cards", "findings"},
    "report": {"errors", "findings"},
    "attacks": {"errors", "cards", "findings", "lora", "base", "base_passes", "lowrank", "encoder", "scores"},
    "audit": {
        "errors",
        "cards",
        "findings",
        "lora",
        "base",
        "lowrank",
        "encoder",
        "scores",
        "attacks",
        "target",
    },
    "pictures": {"errors", "findings", "lora"},
    "request": set(),
    "workbench": {
        "errors",
        "cards",
        "findings",
        "lora",
        "base",
        "scores",
        "attacks",
        "audit",
        "pictures",
        "request",
        "target",
    },
    "scan": {"errors", "extras", "findings", "lora", "request", "target", "workbench"},
    "calibrating": {
        "errors",
        "findings",
        "lora",
        "base",
        "lowrank",
        "scores",
        "attacks",
        "pictures",
        "workbench",
    },  # fmt: skip,
    "fleet": {"errors", "cards", "findings", "lora", "base", "audit"},
    "training": {
        "errors",
        "cards",
        "lora",
        "base",
        "base_passes",
        "base_schedule",
        "lowrank",
        "encoder",
        "scores",
        # Until the training jobs take `on_step` as a scan does.
        "cli",
    },
}
"""The parts of the package that each part may import, besides itself."""
UNBOUND = {"cli", "experiments"}
TORCH_FREE = (
    "errors", "cards", "findings", "lora", "bounded", "gate", "target", "report", "audit", "scan", "extras",
    "stock", "caching", "diagnosis", "request", "cli",
)  # fmt: skip
LIGHTEST = (
    "numpy", "scipy", "torch", "diffusers", "transformers", "peft", "huggingface_hub", "jinja2", "PIL",
    "yaml",
)  # fmt: skip
HEAVY = (
    "torch", "diffusers", "transformers", "peft", "open_clip", "facenet_pytorch", "matplotlib", "scipy",
    "huggingface_hub",
)  # fmt: skip


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Every module that `file` imports, and whether it does so as soon as it is imported itself."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = ["loraudit", *file.relative_to(PACKAGE).parent.parts]
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.If)
        and (not isinstance(node, ast.If) or ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in late
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                origin = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            # `from loraudit import lora` names the part after the word import.
            names = [f"loraudit.{alias.name}" for alias in node.names] if origin == "loraudit" else [origin]
            for name in names:
                yield name, id(node) not in late


FILES = sorted(file for file in PACKAGE.rglob("*.py") if "models" not in file.relative_to(PACKAGE).parts)
PARTS = {part_of(file) for file in FILES}


def test_every_part_has_its_rule() -> None:
    assert not PARTS - set(MAY_IMPORT) - UNBOUND


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrows_only_point_down(file: Path) -> None:
    part = part_of(file)
    if part in UNBOUND:
        return
    for name, _ in imports(file):
        if name.startswith("loraudit."):
            target = name.split(".")[1]
            # `from loraudit import __version__` names no part.
            allowed = target == part or target in MAY_IMPORT[part] or target not in PARTS
            assert allowed, f"{part} imports {target}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_light_parts_import_nothing_heavy(file: Path) -> None:
    if part_of(file) in TORCH_FREE:
        early = {name.split(".")[0] for name, at_once in imports(file) if at_once}
        assert not early & set(HEAVY)


def test_the_rules_notice() -> None:
    """The scanner sees relative, nested and aliased imports; otherwise its silence would mean nothing."""
    seen = {name for file in FILES for name, _ in imports(file)}
    assert {"loraudit.lora", "loraudit.lora.file.header", "loraudit.cli.quick"} <= seen
    late = dict(imports(PACKAGE / "cli/inspect.py"))
    assert late["loraudit.lora"] is False
    assert late["loraudit.errors"] is True


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = {['loraudit', *arguments]!r}; from loraudit.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import loraudit", LIGHTEST),
        ("import loraudit.metadata, loraudit.metadata.scrub, loraudit.audit.scan, loraudit.report", LIGHTEST),
        ("import loraudit.lora, loraudit.cli.inspect", HEAVY),
        (command("--help"), LIGHTEST),
        (command("inspect", "FILE"), HEAVY),
        (command("scan", "FILE", "--depth", "metadata", "--fail-on", "never"), ("pydantic", *LIGHTEST)),
        (
            command("scan", "FILE", "--depth", "metadata", "--fail-on", "never", "-o", "REPORT"),
            ("pydantic", *LIGHTEST),
        ),
        (command("scan", "FILE", "--depth", "weights", "--fail-on", "never"), HEAVY),
        (command("scrub", "FILE", "-o", "COPY"), LIGHTEST),
        (command("rules"), LIGHTEST),
        (command("report", str(PACKAGE.parent / "docs/example.json"), "--fail-on", "never"), HEAVY),
    ],
    ids=[
        "package",
        "words",
        "lora",
        "help",
        "inspect",
        "metadata",
        "metadata-o",
        "weights",
        "scrub",
        "rules",
        "report",
    ],
)
def test_light_commands_load_nothing_heavy(
    code: str, heavy: tuple[str, ...], tmp_path: Path, sd1_factors
) -> None:
    from loraudit.lora import write_kohya

    write_kohya(sd1_factors, tmp_path / "x.safetensors")
    for name, path in (("FILE", "x.safetensors"), ("REPORT", "report"), ("COPY", "copy.safetensors")):
        code = code.replace(f"'{name}'", repr(str(tmp_path / path)))
    loaded = f"sorted(set(sys.modules) & set({heavy!r}))"
    report = f"import atexit, sys; atexit.register(lambda: print('LOADED', *{loaded}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "LOADED"
