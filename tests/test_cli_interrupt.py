"""Ctrl-C stays Ctrl-C, whatever a library makes of it."""

import signal

import pytest

from loraudit.cli.failures import interruptible


def swallow() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("some native words") from None


def test_a_library_that_answers_with_its_own_error() -> None:
    with pytest.raises(ValueError, match="native"):
        swallow()
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallow()


def test_other_errors_pass_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="mine"), interruptible():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
