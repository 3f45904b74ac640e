"""Secrets and words out of files: found by their shape, masked everywhere, hidden in messages."""

import itertools
import json
import random
import string
import time

import pytest

from loraudit.findings.finding import Confidence, Finding, Severity
from loraudit.hiding import HIDDEN, is_public, mask, named, secrets
from loraudit.lora.layouts.dialects import DIALECTS
from loraudit.lora.layouts.names import sites_by_name
from tests.headers import audit, write

_DRAW = random.Random(7)


def draw(count: int, letters: str = string.ascii_letters) -> str:
    """Random characters, made here: no token of anybody."""
    return "".join(_DRAW.choices(letters, k=count))


ALPHANUMERIC, HEX = string.ascii_letters + string.digits, "0123456789abcdef"
CAPITALS = string.ascii_uppercase + string.digits
TOKENS = (
    f"hf_{draw(34)}",
    f"api_org_{draw(34)}",
    *(f"{start}{draw(36)}" for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    f"github_pat_{draw(82)}",
    f"sk-{draw(20)}T3BlbkFJ{draw(20)}",
    f"sk-proj-{draw(74)}T3BlbkFJ{draw(74)}",
    f"sk-ant-api03-{draw(93)}AA",
    f"AKIA{draw(16, string.ascii_uppercase)}",
    f"ASIA{draw(16, string.ascii_uppercase + '234567')}",
    f"AIza{draw(35)}",
    f"glpat-{draw(20)}",
    f"xoxb-{draw(12, string.digits)}-{draw(24)}",
    f"xoxa-2-{draw(20)}",
    f"xapp-1-A{draw(10, string.ascii_uppercase)}-{draw(13, string.digits)}-{draw(64, HEX)}",
    f"npm_{draw(36)}",
    f"eyJhbGciOiJIUzI1NiJ9.ey{draw(40)}.{draw(43)}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{draw(64)}\n{draw(64)}-x\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{draw(64)}",
    f"https://jane:{draw(12)}@host",
    "-".join(["A3", *(draw(count, CAPITALS) for count in (6, 11, 5, 5, 5))]),
    f"ops_eyJ{draw(300)}",
    f"p8e-9{draw(31)}",
    f"LTAI5{draw(19)}",
    f"AKCp{draw(69)}",
    f"cmVmd{draw(59)}",
    f"ATATT3{draw(186)}",
    f"4b1d{draw(38)}",
    f"CLOJARS_{draw(60)}",
    f"v1.0-{draw(24, HEX)}-{draw(146, HEX)}",
    f"dnkey-7{draw(25)}-{draw(52)}",
    f"dp.pt.{draw(43)}",
    f"duffel_live_5{draw(42)}",
    f"dt0c01.{draw(24)}.{draw(64)}",
    f"EZAK4{draw(53)}",
    f"EAAM4{draw(120)}",
    f"FLWSECK_TEST-{draw(32, HEX)}-X",
    f"fo1_8{draw(42)}",
    f"fm2_{draw(120)}",
    f"fio-u-3{draw(63)}",
    f"glc_4{draw(60)}",
    f"glsa_{draw(32)}_{draw(8, HEX)}",
    f"pat.{draw(22)}.{draw(24, HEX)}.{draw(20)}",
    f"HRKU-AA7{draw(57)}",
    f"ico-6{draw(31)}",
    f"s-s4t2ud-{draw(64, HEX)}",
    f"lin_api_{draw(40)}",
    f"ntn_{draw(11, string.digits)}{draw(35)}",
    f"API-7{draw(25, CAPITALS)}",
    f"sha256~{draw(43)}",
    f"pscale_tkn_6{draw(40)}",
    f"PMAK-{draw(24, HEX)}-{draw(34, HEX)}",
    f"pnu_5{draw(35)}",
    f"pul-{draw(40, HEX)}",
    f"rdme_4{draw(69, string.ascii_lowercase)}",
    f"rubygems_{draw(48, HEX)}",
    f"tk-us-4{draw(47)}",
    f"xkeysib-{draw(64, HEX)}-{draw(16)}",
    f"sntrys_eyJpYXQiO{draw(120)}_{draw(43)}",
    f"sntryu_{draw(64, HEX)}",
    f"sm_pat_{draw(16)}",
    f"shippo_live_{draw(40, HEX)}",
    f"sgp_local_{draw(40, HEX)}",
    f"sq0atp-9{draw(21)}",
    f"SK9{draw(31, HEX)}",
    f"hvb.{draw(140)}",
    f"NRAK-3{draw(26, CAPITALS)}",
    f"tfp_3{draw(58)}",
    f"AQVN3{draw(36)}",
    f"webhook.office.com/webhookb2/{draw(36, HEX)}@{draw(36, HEX)}/IncomingWebhook/{draw(32, HEX)}/"
    f"{draw(36, HEX)}",
    f"wandb login {draw(40, HEX)}",
)


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:12].strip())
def test_a_secret_is_found_by_its_shape_alone(token) -> None:
    for text in (token, f'use "{token}" here', f"login --token {token}\n", f"a-{token}"):
        found = secrets(text)
        assert len(found) == 1 and token.startswith(found[0][:20])
        assert token[7:] not in mask(text)
        assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "x" * 34,
        f"hf_{draw(20)}",
        f"hf_{draw(36)}",
        f"shelf_{draw(34)}",
        "AKIA" + "X" * 16,
        "TODAYINASIAASACKOFRICEFELLOVER",
        "ghp_" + "x" * 36,
        "task-some-long-hyphenated-word-of-many-letters sk-learn",
        "xoxb-xxxxxxxxxxx-xxxxxxxxxxxxxxxxxxxxxxxx",
        "max_token_length=225 keep_tokens_separator=|||",
        "class_tokens: photo of a woman with red hair",
        "eyes.eyebrows.eyelashes",
        "the PRIVATE KEY is elsewhere",
        "pul-" + "x" * 40,
        "API-REFERENCEOFSOMEKINDORSUCH",
        "SKYLINE SKETCH sat.on the mat",
        "4b1d",
        "password: none, password = ******, pwd=$PWD, the password is long",
        "--token_length 225 --keep_tokens 1 --caption_token woman",
        "12:AAB and Q~ and .atlasv1.",
    ],
)
def test_what_looks_alike_is_no_secret(text) -> None:
    assert (secrets(text), mask(text)) == ([], text)


def test_what_a_link_or_a_label_hands_over_is_a_secret() -> None:
    key = draw(32, HEX)
    for text in (f"https://civitai.com/api/download/models/1?token={key}", f"wandb_api_key={key}"):
        assert key[7:] not in mask(text) and secrets(text)
    assert not secrets(f"sha256={key}")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter2", "hunter2"),
        ("PASSWD='hunter-two'", "hunter-two"),
        ('"passphrase": "correct-horse-9"', "correct-horse-9"),
        ("db_pwd=s3cret!", "s3cret!"),
        ("train.py --hub_token q7Rz9kLm2Wx --seed 4", "q7Rz9kLm2Wx"),
        ("train.py --wandb-key=q7Rz9kLm2Wx", "q7Rz9kLm2Wx"),
        ('--password "q7Rz9kLm2Wx"', "q7Rz9kLm2Wx"),
        ("auth=q7Rz9kLm2WxAb", "q7Rz9kLm2WxAb"),
    ],
)
def test_what_people_write_beside_a_label_is_a_secret(text, secret) -> None:
    assert secrets(text) == [secret] and secret not in mask(text)
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"7123456789:AA{draw(33)}", "AA"),
        (f"AbC7Q~{draw(33)}", "Q~"),
        (f"{draw(14)}.atlasv1.{draw(64)}", ".atlasv1."),
    ],
)
def test_a_secret_with_its_sign_inside_is_cut_from_there(text, secret) -> None:
    (found,) = secrets(text)
    assert secret in found[:12] and found[12:] not in mask(text) and text.endswith(found[12:])


SECRET = TOKENS[0]
PLACES = {
    "ss_output_name": "jane {} doe",
    "ss_training_comment": "use {} to fetch",
    "ss_tag_frequency": json.dumps({"10_{} person": {"jane {}": 3}}),
    "ss_dataset_dirs": json.dumps({"10_jane {} doe": {"n_repeats": 1, "img_count": 2}}),
    "modelspec.author": "Jane {}",
    "ss_session_id": "{}",
    "notes": "/home/jane/{}/x and mail {}@example.org",
    "modelspec.trigger_phrase": "x" * 110 + " {}",
}


def told(findings) -> str:
    return "\n".join(finding.told(reveal=True) for finding in findings.values())


@pytest.mark.parametrize("secret", [SECRET, *TOKENS[5:8], TOKENS[11]], ids=lambda token: token[:8])
def test_a_secret_is_masked_in_every_quote_of_every_finding(tmp_path, secret) -> None:
    metadata = {key: text.replace("{}", secret) for key, text in PLACES.items()}
    findings = audit(write(tmp_path / "a.safetensors", metadata))
    assert {"LA-SECRET-001", "LA-NAME-001", "LA-CAPTION-001", "LA-PATH-001"} <= findings.keys()
    assert "jane" in told(findings)
    for start in range(len(secret) - 10):
        assert secret[start : start + 10] not in told(findings)
    # The same words without a secret are told in full.
    plain = audit(write(tmp_path / "b.safetensors", PLACES | {"ss_tag_frequency": '{"10_x": {"hair": 1}}'}))
    assert "LA-SECRET-001" not in plain and "/home/jane/{}/x" in told(plain)
    assert findings["LA-DATASET-001"].numbers == plain["LA-DATASET-001"].numbers


def test_a_secret_by_its_key_is_masked_elsewhere_too(tmp_path) -> None:
    metadata = {
        "api_key": "zqx019qz",
        "ss_training_comment": "the key is zqx019qz",
        "modelspec.author": "Jane",
    }
    findings = audit(write(tmp_path / "a.safetensors", metadata))
    assert "zqx019qz" not in told(findings) and "the key is zq…" in told(findings)
    without = audit(write(tmp_path / "b.safetensors", {**metadata, "api_key": "None"}))
    assert "zqx019qz" in told(without)


def test_escapes_do_not_bring_a_secret_back(tmp_path) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET)
    metadata = {"ss_tag_frequency": f'{{"10_jane person": {{"{escaped}": 3}}}}'}
    findings = audit(write(tmp_path / "a.safetensors", metadata))
    assert "LA-SECRET-001" in findings and SECRET[8:20] not in told(findings)


def test_no_finding_can_be_made_that_quotes_a_secret() -> None:
    finding = Finding(
        "LA-X-001", Severity.LOW, Confidence.LOW, "t", "d", "r", quotes=(f"a {SECRET}", "jane doe")
    )
    assert finding.quotes == (f"a {SECRET[:6]}…", "jane doe")


def test_a_name_keeps_the_words_of_networks() -> None:
    assert named("bundle_emb.jane doe.string_to_param") == f"bundle_emb.{HIDDEN}.string_to_param"
    assert named("x.lora_A.jane_doe_berlin.weight") == f"x.lora_A.{HIDDEN}.weight"
    assert named("jane") == named("\x1b[31mjane") == named("Jane Doe 1990") == HIDDEN
    assert not is_public("a.jane") and not is_public("0170.1234567") and is_public("__metadata__")
    assert named("a." * 10**6 + "jane") == f"{'a.' * 200}…"


def test_numbers_in_a_row_are_no_place_of_a_layer() -> None:
    """Three digits each, they spell a telephone number, a date or a place."""
    assert named("unet.170.123.456.to_q") == f"unet.{HIDDEN}.to_q"
    assert named("1." * 10**6 + "jane") == f"{HIDDEN}.…"
    assert named("input_blocks.4.1.attn1.2.3") == "input_blocks.4.1.attn1.2.3"
    assert is_public("conv1.0.1") and not is_public("conv.17.01.990") and not is_public("017-012-34")


def test_every_name_of_every_layout_is_public() -> None:
    for spelling in itertools.chain(*(dialect.spellings for dialect in DIALECTS)):
        components = [sites_by_name(one, spelling.naming) for one in spelling.components]
        for name in itertools.chain(*(names.sites for names in components)):
            assert is_public(spelling.prefix + name)
        for suffix in spelling.suffixes:
            assert is_public(suffix) and named(suffix) == suffix


@pytest.mark.parametrize(
    "unit",
    [
        "-----BEGIN PRIVATE KEY-----",
        "sk-",
        "hf_" + "a1B2" * 9 + " ",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6.",
        "wd=a ",
    ],
)
def test_a_text_made_of_secrets_costs_little_and_stays_hidden(unit: str) -> None:
    text = "AKIA" + "Q2W3" * 4 + " " + unit * (3_000_000 // len(unit)) + " hf_" + "c3D4" * 9
    start = time.process_time()
    hidden = mask(text, [text[-39:]])
    assert time.process_time() - start < 2  # some 0.2 s where nothing else runs
    assert "Q2W3Q2W3" not in hidden and "c3D4c3D4" not in hidden
    assert mask(f"a {'photo of a woman, ' * 1000}") == f"a {'photo of a woman, ' * 1000}"
