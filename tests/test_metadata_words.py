"""Words of metadata: whose name, which address, whose home, and what only looks like one."""

import base64
from datetime import timedelta
from pathlib import PurePosixPath

import pytest

from loraudit.hiding import secrets
from loraudit.metadata.names import instance, is_person, subject
from loraudit.metadata.patterns import addresses, is_home, paths
from loraudit.metadata.run import utc_offset

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2).decode()


@pytest.mark.parametrize(
    ("date", "finished", "hours"),
    [
        ("2024-06-10T11:52:00", "1718013120.5", 2),
        ("2024-06-10T18:52:01", "1718013120.5", 9),
        ("2024-06-10T15:22:00", "1718013120", 5.5),
        ("2024-06-10T09:52:00", "1718013120", 0),
        ("2024-06-10T02:52:00", "1718013120", -7),
        ("2024-06-10T11:57:00", "1718013120", None),  # not of one moment
        ("2024-06-14T11:52:00", "1718013120", None),
        ("2024-06-10", "1718013120", None),
        ("yesterday", "1718013120", None),
        ("2024-06-10T11:52:00", "nan", None),
        ("2024-06-10T11:52:00", "1e999", None),
        ("0001-01-01T00:00:00", "3999999999", None),
        ("2024-06-10T11:52:00", "None", None),
    ],
)
def test_time_zone(date, finished, hours) -> None:
    assert utc_offset(date, finished) == (None if hours is None else timedelta(hours=hours))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("10_jane doe person (2)", ("jane", "doe")),
        ("C:\\data\\10_JaneDoe", ("Jane", "Doe")),
        ("/data/20_李小龍", ("李小龍",)),
        ("my_style_v2-000008", ()),
        ("5_woman", ()),
        ("1_ohwx man", ()),
        ("checkpoint-500", ()),
        ("LoRA@1718013120", ()),
        ("DreamBooth_LoRA_SDXL-LoCon2", ()),
        ("e3b0c44298", ()),
    ],
)
def test_which_words_name_a_subject(name, words) -> None:
    assert subject(instance(name)) == words


def test_a_class_word_says_that_it_is_somebody() -> None:
    assert is_person("jane Woman") and not is_person("jane dog")


@pytest.mark.parametrize(
    "text",
    [
        "and/or 1/2 http://example.org/home/x w/h 16:9 a:/b:/c runwayml/sd /home /r/pics //cdn",
        "networks.lora prodigy(betas=(0.9,0.99)) 512x512 ~10 hours at 3:4",
        "photo@2x.png git@github.com LoRA@1732 netflix.com x.company",
        "+0.5 +1.0 1e+10 UTC+02:00 2024-06-10T11:52:00+09:00 +1718013120 512+512 768x1024 (1)+(2)",
        "seed 1718013120 sha256 0123456789012345 tel phone 2024-06-10 tel: 12 +100 200 300 400 +44 +1 2 3",
        "hotel: 020 7946 0958 ratio: 1.7777777 lr=0.00010000 betas: (0.9, 0.999)",
        "task-some-long-hyphenated-word-of-many-letters hf_short sk-learn ghp_x",
    ],
)
def test_what_looks_alike_is_left_alone(text) -> None:
    assert (paths(text), addresses(text), secrets(text)) == ([], [], [])


def test_homes_are_told_from_other_paths() -> None:
    for path in ("/home/jane/x", "C:\\Users\\jane\\x", "D:/Users/jane/x", "\\\\nas\\x\\y", "~jane/x"):
        assert paths(path) == [path]
        assert is_home(path)
    for path in (
        str(PurePosixPath("/", "root", "x")),
        "/workspace/x/y",
        "E:\\loras\\x",
        "/Users/Shared/x",
        "/home/user/x",
        "~/x",
    ):
        assert paths(path) == [path]
        assert not is_home(path)
