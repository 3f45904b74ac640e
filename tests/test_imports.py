"""Imports go one way, file by file, and what needs no network of neurons loads none."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import loraudit

PACKAGE = Path(loraudit.__file__).parent

ROOMS = (
    "version", "errors", "hiding", "text", "files", "cards", "runs",
    "findings", "lora", "metadata", "evidence", "verdict",
    "base", "encoder", "scores", "attacks",
    "report", "gate", "people", "training", "audit", "bench", "cli",
)  # fmt: skip
"""Rooms and loose files from the ground up; each may import those before it."""
KEPT_APART = {
    "report": {"version", "errors", "text", "files", "findings", "verdict"},
    "scores": {"errors", "text", "files", "cards", "findings", "evidence"},
    "evidence": {"errors", "text", "files", "findings"},
    "training": set(ROOMS[: ROOMS.index("training")]) - {"attacks", "report", "gate", "verdict", "metadata"},
}
"""Rooms that may import less than what lies below them: `report` sees the record and the words of rules,
`scores` neither `base` nor `lora`."""
DOORS = {"__init__": {"version", "errors", "findings", "lora", "audit"}, "__main__": {"cli"}}
TORCH_FREE = {
    "version", "errors", "hiding", "text", "files", "cards", "runs", "findings", "lora", "metadata",
    "verdict", "report", "gate", "cli",
}  # fmt: skip
MOST_LOOSE = 9
LIGHTEST = (
    "numpy", "scipy", "torch", "diffusers", "transformers", "peft", "huggingface_hub", "jinja2", "PIL",
    "yaml",
)  # fmt: skip
HEAVY = (
    "torch", "diffusers", "transformers", "peft", "open_clip", "facenet_pytorch", "matplotlib", "scipy",
    "huggingface_hub",
)  # fmt: skip


FILES = sorted(file for file in PACKAGE.rglob("*.py") if "models" not in file.relative_to(PACKAGE).parts)


def name_of(file: Path) -> str:
    """`loraudit.lora.load` of `loraudit/lora/load.py`, `loraudit.lora` of its `__init__.py`."""
    return ".".join(["loraudit", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name_of(file): file for file in FILES}


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imports(file: Path, modules: Mapping[str, Path] = MODULES) -> Iterator[tuple[str, bool]]:
    """Every module that `file` imports, wherever in it, and whether as soon as it is imported itself.

    `from loraudit.lora import load` names a module or what is in one.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
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
            assert not node.level, f"{file} imports relatively"
            origin = node.module or ""
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in modules else origin, id(node) not in late


GRAPH = {
    module: {name for name, _ in imports(file) if name in MODULES and name != module}
    for module, file in MODULES.items()
}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Some modules that import each other in a ring, none if there is no ring."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        found = next((ring for name in sorted(graph[module]) if (ring := visit(name, [*way, module]))), [])
        done.add(module)
        return found

    return next((ring for module in sorted(graph) if (ring := visit(module, []))), [])


def may_import(room: str, other: str) -> bool:
    if room in DOORS:
        return other in DOORS[room]
    below = set(ROOMS[: ROOMS.index(room)])
    return other == room or other in KEPT_APART.get(room, below)


def test_no_file_is_in_a_circle() -> None:
    assert not circle(GRAPH)
    ring = {"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}
    assert circle(ring) == ["b", "d", "b"]
    assert not circle({**ring, "d": {"c"}})


def test_every_room_has_its_place_and_few_files_are_loose() -> None:
    assert {room_of(module) for module in MODULES} == {*ROOMS, *DOORS}
    loose = [file for file in FILES if file.parent == PACKAGE]
    assert len(loose) <= MOST_LOOSE, loose


def test_the_documented_order_is_the_one_that_is_checked() -> None:
    page = (PACKAGE.parent / "docs/house.md").read_text(encoding="utf-8")
    told = [line.split("`")[1].strip("/") for line in page.splitlines() if line.startswith("| `")]
    assert told == [room for room in reversed(ROOMS) if (PACKAGE / room).is_dir()]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_only_point_down(module: str) -> None:
    room = room_of(module)
    upward = sorted(name for name in GRAPH[module] if not may_import(room, room_of(name)))
    assert not upward, f"{module} imports {upward}"


def test_the_arrows_notice() -> None:
    assert may_import("verdict", "evidence") and not may_import("evidence", "verdict")
    assert may_import("scores", "evidence") and not may_import("scores", "lora")
    assert not may_import("lora", "metadata") and not may_import("training", "cli")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_light_rooms_import_nothing_heavy(module: str) -> None:
    if room_of(module) in TORCH_FREE:
        early = {name.split(".")[0] for name, at_once in imports(MODULES[module]) if at_once}
        assert not early & set(HEAVY)


def test_the_scanner_notices() -> None:
    """It sees nested and late imports, and modules named after the word import."""
    seen = set().union(*GRAPH.values())
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
