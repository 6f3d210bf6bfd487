import signal
import threading
from types import FrameType, TracebackType

# Sent by schedulers and containers, and when the terminal is closed.
TERMINATION = (signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt``, as Ctrl-C does, within a ``with`` block.

    A signal that is ignored, as SIGHUP is after ``nohup``, stays ignored. In other threads than the
    main one, which cannot receive signals, nothing is changed. ``exit_code`` is 128 plus the number
    of the received signal, 130 for Ctrl-C.
    """

    def __init__(self) -> None:
        self.exit_code = 128 + signal.SIGINT
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> 'StopSignals':
        if threading.current_thread() is threading.main_thread():
            for number in TERMINATION:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = 128 + number
        raise KeyboardInterrupt
