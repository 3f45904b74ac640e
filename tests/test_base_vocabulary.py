"""The tokenizer for single files: its ids are those of OpenAI's CLIP."""

from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from loraudit.base import vocabulary
from loraudit.base.vocabulary import LENGTH, clip_tokenizer
from loraudit.errors import LorauditError

PUBLISHED = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "a diagram": [320, 22697],
    "Hello World!": [3306, 1002, 256],
    "": [],
}
"""Prompts and ids out of public examples; 49406 and 49407 stand around them."""
PROMPTS = (
    "A photo of a person",
    "photo of sks woman, 85mm, f/1.8",
    "ohwx man",
    "emma watson",
    "jane_doe-v3",
    "100% 24",
    "it's the cat's toy, isn't it? we'll've",
    "naïve café Ærø ß straße",
    "日本語 テスト",
    "привет мир",
    "emoji 🙂 here",
    "  spaces   and\ttabs\nand lines ",
    "(masterpiece:1.2), [bad] <lora:x:1>",
    "x" * 300,
    "<|endoftext|> a",
)


@pytest.mark.parametrize("prompt", PUBLISHED)
def test_published_ids(prompt: str) -> None:
    assert clip_tokenizer()(prompt).input_ids == [49406, *PUBLISHED[prompt], 49407]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_those_of_openais_tokenizer(prompt: str) -> None:
    """open_clip's SimpleTokenizer is OpenAI's code, with its own reading of the same list."""
    theirs = SimpleTokenizer(clean="lower").encode(prompt)
    special = {word: id_ for word, id_ in SimpleTokenizer().encoder.items() if word.startswith("<")}
    assert special["<start_of_text>"], "the names of the two words are open_clip's own"
    ours = clip_tokenizer()(prompt).input_ids
    if "<|" in prompt:  # a special word is one token here, as in transformers
        assert ours == [49406, 49407, 320, 49407]
        return
    assert ours == [49406, *theirs, 49407]


def test_padding_and_length() -> None:
    tokenizer = clip_tokenizer()
    assert (len(tokenizer), tokenizer.model_max_length) == (49408, LENGTH)
    ids = tokenizer(["a", "x " * 200], padding="max_length", max_length=LENGTH, truncation=True).input_ids
    assert [len(one) for one in ids] == [LENGTH, LENGTH]
    assert ids[0] == [49406, 320, *[49407] * 75] and ids[1][-1] == 49407


def test_it_is_the_one_that_a_folder_holds(tmp_path: Path) -> None:
    """Saved and read again, as SD 1.x's own `tokenizer/` is."""
    clip_tokenizer().save_pretrained(tmp_path)
    read = CLIPTokenizer.from_pretrained(str(tmp_path))
    assert read.get_vocab() == clip_tokenizer().get_vocab()
    for prompt in PROMPTS:
        assert read(prompt).input_ids == clip_tokenizer()(prompt).input_ids


def test_another_list_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_SHA256", "0" * 64), ("_FILE", "nothing.gz")):
        vocabulary.clip_tokenizer.cache_clear()
        with monkeypatch.context() as changed:
            changed.setattr(vocabulary, name, value)
            with pytest.raises(LorauditError, match="CLIP's vocabulary"):
                clip_tokenizer()
