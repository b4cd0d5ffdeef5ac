import signal

from resnest_d2.engine.trainer import _undisturbed


def test_signals_are_put_off_and_back():
    before = signal.getsignal(signal.SIGINT)
    with _undisturbed():
        signal.raise_signal(signal.SIGINT)  # would be a KeyboardInterrupt
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
