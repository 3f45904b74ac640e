"""The wheel holds what the command needs, and nothing that only makes or measures the models."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
BOUND = 33e6
"""Bytes; the weights of the models are nearly all of it."""


def built(root: Path, out: Path, version: str = "standard") -> zipfile.ZipFile:
    (path,) = WheelBuilder(str(root)).build(directory=str(out), versions=[version])
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    with built(ROOT, tmp_path_factory.mktemp("wheel")) as opened:
        yield opened


def test_the_models_and_the_example_are_in_it(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for file in (
        "cards.toml",
        "examples/example.safetensors",
        "tiny-sd/unet/diffusion_pytorch_model.safetensors",
    ):
        assert wheel.read(f"loraudit/models/{file}") == (ROOT / "models" / file).read_bytes()
    photos = {
        f"loraudit/models/examples/photos/{one.name}" for one in (ROOT / "models/examples/photos").iterdir()
    }
    assert len(photos) == 5 and photos <= names
    assert {"loraudit/py.typed", "loraudit/report/report_v1.schema.json"} <= names


def test_all_of_the_package_is_in_it_and_all_that_scans_read_of_the_models(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for source, target in (("loraudit", "loraudit"), ("models", "loraudit/models")):
        files = [
            file for file in (ROOT / source).rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
        wanted = {f"{target}/{file.relative_to(ROOT / source).as_posix()}" for file in files}
        missing = wanted - names
        kinds = {
            Path(name).suffix for name in missing if "/recipes/" not in name and "/tiny-sink/" not in name
        }
        # The records and pictures of how a model was trained and what it was measured at.
        assert kinds == (set() if source == "loraudit" else {".png", ".jsonl", ".json"})
        assert {Path(name).name for name in missing if name.endswith(".json")} <= {"table.json"}


def test_recipes_tables_and_tests_stay_in_the_repository(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"loraudit"}
    words = {word for name in names for word in Path(name).parts}
    assert not words & {"recipes", "benchmarks", "tables", "tests", "docs", "experiments", "__pycache__"}
    assert not [name for name in names if name.startswith("loraudit/models/") and name.endswith(".py")]


def test_it_is_small(wheel: zipfile.ZipFile) -> None:
    assert Path(wheel.filename or "").stat().st_size < BOUND


def test_the_image_builds_the_same(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The Dockerfile copies these alone, without what .dockerignore names."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("loraudit", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "recipes"))
    with built(tmp_path, tmp_path / "dist") as opened:
        assert sorted(opened.namelist()) == sorted(wheel.namelist())
