"""`loraudit finetune` as a user meets it: files, streams and exit codes."""

from pathlib import Path

import numpy as np
import pytest

from loraudit.errors import LorauditError
from loraudit.lora.file.header import read_header
from loraudit.training import finetune_job
from loraudit.training.checks import check_targets
from loraudit.training.varied import TARGETS
from tests.jobs import SMALL, _kept, base, loraudit_process, photos, run
from tests.tiny import tiny_base

__all__ = ["_kept", "base", "photos", "run"]


def tensors(path: Path) -> dict[str, tuple[int, ...]]:
    return {key: tuple(entry.shape) for key, entry in read_header(path).tensors.items()}


def test_finetune_writes_a_lora(run, base, photos, tmp_path) -> None:
    out = tmp_path / "me.safetensors"
    code, stdout, stderr = run("finetune", photos, "-o", out, "--base", base, "--name", "qwxz", *SMALL)
    assert (code, stdout) == (0, "")
    lines = stderr.splitlines()
    assert lines[0] == "instance prompt: A face of qwxz."
    # What runs, how far it is, and at the end what was written.
    stages = [line.partition(":")[0] for line in lines[1:-1]]
    assert list(dict.fromkeys(stages)) == ["sampling 2 class pictures", "fine-tuning"]
    assert "fine-tuning: 2 of 2" in lines
    size = out.stat().st_size / 1e6
    assert lines[-1] == f"wrote {out}: {size:.1f} MB, 32 modules at rank 2, after 2 steps"
    keys = tensors(out)
    assert len(keys) == 2 * (28 + 4)
    assert sum(key.startswith("text_encoder.") for key in keys) == 8
    # The next LoRA on this base finds the class pictures, and is the same.
    again = tmp_path / "again.safetensors"
    words = ("finetune", photos, "-o", again, "--base", base, "--name", "qwxz", *SMALL)
    assert "class pictures" not in run(*words)[2]
    assert again.read_bytes() == out.read_bytes()
    # The trigger is a secret of whoever made the file.
    assert b"qwxz" not in out.read_bytes()
    assert [file.name for file in tmp_path.iterdir() if "tmp" in file.name or "partial" in file.name] == []


def test_equal_options_give_equal_files_and_every_option_counts(run, base, photos, tmp_path) -> None:
    def make(*words: object) -> bytes:
        out = tmp_path / "x.safetensors"
        code, _, stderr = run("finetune", photos, "-o", out, "--base", base, "--force", *SMALL, *words)
        assert code == 0, stderr
        return out.read_bytes()

    plain = make("--name", "abcd")
    assert make("--name", "abcd") == plain
    for words in (
        ("--name", "abce"),
        ("--prompt", "abcd"),
        ("--name", "abcd", "--class-prompt", "a face"),
        ("--name", "abcd", "--no-prior"),
        ("--name", "abcd", "--class-images", 1),
        ("--name", "abcd", "--no-text-encoder"),
        ("--name", "abcd", "--target", "to_k"),
        ("--name", "abcd", "--rank", 3),
        ("--name", "abcd", "--alpha", 5),
        ("--name", "abcd", "--text-alpha", 5),
        ("--name", "abcd", "--lr", 0.1),
        ("--name", "abcd", "--text-lr", 0.1),
        ("--name", "abcd", "--steps", 1),
        ("--name", "abcd", "--batch", 2),
        ("--name", "abcd", "--seed", 4),
    ):
        assert make(*words) != plain, words
    assert make("--prompt", "A face of abcd.") == plain


def test_a_name_that_is_not_given_is_random(run, base, photos, tmp_path) -> None:
    names = set()
    for number, more in enumerate(((), ("--quiet",))):
        out = tmp_path / f"{number}.safetensors"
        code, _, stderr = run("finetune", photos, "-o", out, "--base", base, *SMALL, *more)
        assert code == 0
        names.add(
            next(line for line in stderr.splitlines() if line.startswith("instance prompt: A face of "))
        )
    assert len(names) == 2
    # The name stands nowhere else, so --quiet leaves that line; a name that was given is chatter.
    assert len(stderr.splitlines()) == 1
    for given in (("--name", "qwxz"), ("--prompt", "qwxz")):
        out = tmp_path / f"{given[0]}.safetensors"
        assert run("finetune", photos, "-o", out, "--base", base, *SMALL, "-q", *given) == (0, "", "")


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_the_layouts_hold_the_same_numbers(layout, run, base, photos, tmp_path) -> None:
    from safetensors.numpy import load_file

    plain, other = tmp_path / "plain.safetensors", tmp_path / "other"
    for out, name in ((plain, "diffusers"), (other, layout)):
        words = ("finetune", photos / "0.png", "-o", out, "--base", base, "--name", "q", "--layout", name)
        assert run(*words, *SMALL)[0] == 0
    files = sorted(other.rglob("*.safetensors")) if layout == "peft" else [other]
    assert len(files) == (2 if layout == "peft" else 1)
    found = [v for file in files for k, v in load_file(file).items() if not k.endswith(".alpha")]

    def sums(arrays):
        return sorted(float(np.abs(array).astype(np.float64).sum()) for array in arrays)

    np.testing.assert_allclose(sums(found), sums(load_file(plain).values()), rtol=1e-6)
    code, _, stderr = run(*words, *SMALL)
    assert code == 2 and "exists already" in stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"-o": "taken.safetensors"}, "taken.safetensors exists already"),
        ({"-o": "nowhere/x.safetensors"}, "there is no folder for"),
        ({"-o": "photos"}, "is a folder"),
        ({"images": "nothing.png"}, "there is no image nothing.png"),
        ({"images": "taken.safetensors"}, "taken.safetensors is not an image"),
        ({"images": "empty"}, "there are no images"),
        ({"--base": "elsewhere"}, "no base is called 'elsewhere'"),
        ({"--lr": "0"}, "learning rate"),
        ({"--rank": "0"}, "rank"),
        ({"--target": "to_x"}, "no module called to_x"),
    ],
)
def test_finetune_refuses(change, message, run, base, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.safetensors").write_bytes(b"mine")
    Path("empty").mkdir()
    words = {
        "-o": "x.safetensors",
        "--base": base,
        "images": str(photos),
        "--name": "q",
        "--no-text-encoder": "",
    }
    words |= change
    listed = [words.pop("images"), *(word for pair in words.items() for word in pair if word)]
    code, stdout, stderr = run("finetune", *SMALL, *listed)
    assert (code, stdout) == (2, "")
    line, hint = stderr.splitlines()[-2:]
    assert line.startswith("loraudit: error: ") and message in line and hint.startswith("  ")
    assert "Traceback" not in stderr
    assert Path("taken.safetensors").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "empty", "taken.safetensors"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("finetune", "PHOTOS", "-o", "x", "--base", "sdxl"), "no base is called 'sdxl'"),
        (("finetune", "PHOTOS", "-o", "x", "--target", "to_zz"), "no module called to_zz"),
        (("finetune", "PHOTOS", "-o", "x", "--base", "sd15", "--target", "to_zz"), "no module called to_zz"),
        (
            ("finetune", "PHOTOS", "-o", "x", "--target", "to_q", "--target", "to_zz"),
            "no module called to_zz",
        ),
        (("finetune", "PHOTOS", "-o", "x", "--base", "BASE", "--target", "to_zz"), "no module called to_zz"),
        (("finetune", "PHOTOS", "-o", "none/x"), "there is no folder for none/x"),
        (("train-encoder", "-o", "x", "--base", "sdxl"), "no base is called 'sdxl'"),
    ],
)
def test_a_bad_argument_costs_no_loading(words, message, base, photos, tmp_path) -> None:
    """Neither torch nor diffusers is loaded, so no base is."""
    places = {"PHOTOS": str(photos), "BASE": base}
    done = loraudit_process(tmp_path, *(places.get(word, word) for word in words))
    assert (done.returncode, done.stdout) == (2, "LOADED\n")
    (line, hint) = done.stderr.splitlines()
    assert line.startswith("loraudit: error: ") and message in line and hint.startswith("  ")


def test_a_module_of_the_base_is_named_by_any_end(base) -> None:
    """The check refuses nothing that the base has: every end of every module's name passes."""
    sites = [site for site in tiny_base().modules() if site.startswith("unet.") and site.endswith("proj_in")]
    assert sites
    check_targets(base, [".".join(sites[0].split(".")[start:]) for start in range(1, 6)])
    check_targets("tiny", [*TARGETS["locon"], *TARGETS["custom"]])
    for targets in (["to_"], ["o_q"], ["", "to_q"], ["unet"]):
        with pytest.raises(LorauditError, match="no module called"):
            check_targets("tiny", targets)


def test_ctrl_c_in_finetune_leaves_nothing(run, base, photos, tmp_path, monkeypatch) -> None:
    def interrupted(*arguments):
        yield next(finetune(*arguments))
        raise KeyboardInterrupt

    finetune = finetune_job.finetune
    monkeypatch.setattr(finetune_job, "finetune", interrupted)
    out = tmp_path / "x.safetensors"
    code, _, stderr = run("finetune", photos, "-o", out, "--base", base, *SMALL)
    assert code == 130 and stderr.splitlines()[-1] == "loraudit: error: interrupted"
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}
