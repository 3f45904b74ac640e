"""A long job in a folder: settings first, whole files, and lines that an interruption may cut."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.errors import LorauditError
from loraudit.runs import Run

ROWS = st.lists(
    st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3), max_size=6
)


def begin(folder: Path, settings: str) -> None:
    Run(folder).begin("settings.json", settings, lambda old: "" if old == settings else "another job")


def test_a_folder_belongs_to_one_job(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    begin(folder, "one")
    begin(folder, "one")
    with pytest.raises(LorauditError, match="b holds another job"):
        begin(folder, "two")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("settings.json", "one")]


@pytest.mark.parametrize("where", ["file", "file/under"])
def test_a_folder_that_cannot_be_is_said_before_any_work(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for attempt in (Run(tmp_path / where).check, lambda: begin(tmp_path / where, "one")):
        with pytest.raises(LorauditError, match="cannot write"):
            attempt()
    Run(tmp_path / "new" / "folder").check()
    assert {file.name for file in tmp_path.iterdir()} == {"file"}


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def half(path: Path) -> None:
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.keep("x.bin", half)
    assert list(tmp_path.iterdir()) == []
    run.keep("x.bin", lambda path: path.write_text("whole"))
    with pytest.raises(KeyboardInterrupt):
        run.keep("x.bin", half)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.bin", "whole")]


@given(rows=ROWS, cut=st.integers(0, 200))
def test_rows_come_back_wherever_the_file_was_cut(rows: list[dict[str, object]], cut: int) -> None:
    """A job that lost the end of its file goes on after the last whole row, and ends with the same file."""
    with TemporaryDirectory() as name:
        run = Run(Path(name))
        for row in rows:
            run.append("rows.jsonl", row)
        path = run.folder / "rows.jsonl"
        whole = path.read_bytes() if rows else b""
        if rows:
            path.write_bytes(whole[: len(whole) - min(cut, len(whole))])
        found = run.rows("rows.jsonl")
        assert found == rows[: len(found)]
        assert len(found) == (path.read_bytes().count(b"\n") if rows else 0)
        assert cut > 0 or found == rows
        for row in rows[len(found) :]:
            run.append("rows.jsonl", row)
        assert not rows or path.read_bytes() == whole


def test_rows_that_are_refused_leave_the_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in range(5):
        run.append("rows.jsonl", {"step": step})
    assert run.rows("rows.jsonl", keep=lambda row: row["step"] <= 2) == [{"step": step} for step in range(3)]
    assert run.rows("rows.jsonl") == [{"step": step} for step in range(3)]
    assert run.rows("none.jsonl") == [] and not (tmp_path / "none.jsonl").exists()
