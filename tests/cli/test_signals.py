"""SIGTERM and SIGHUP interrupt a program as Ctrl-C does."""

import os
import signal
import threading
import time

import pytest

from mmselfsup_invp.cli.errors import plain_errors
from mmselfsup_invp.cli.signals import StopSignals


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(1)  # The handler runs before the next instruction.


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_exit_code_is_that_of_the_signal(number, code, capsys):
    with pytest.raises(SystemExit) as end, plain_errors():
        send(number)
    assert end.value.code == code
    assert capsys.readouterr().err.strip() == 'Interrupted.'


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(ValueError), StopSignals():
        assert signal.getsignal(signal.SIGTERM) not in before
        raise ValueError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_an_ignored_signal_stays_ignored(monkeypatch):
    """As after ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_changes():
    found = []

    def work():
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
