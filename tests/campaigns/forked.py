"""What the campaigns do in the processes that they fork."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

# Exit code of an error that was not reported as one message.
TRACEBACK = 3


def run_and_exit(work: Callable[[], None], log: Path) -> NoReturn:
    """Do the work of a forked process on one thread and end the process.

    Args:
        work (Callable): What to do; its exit code, or :data:`TRACEBACK` after an error, becomes
            that of the process.
        log (Path): File for everything that is printed.
    """
    code = 0
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # pytest replaces them.
        torch.set_num_threads(1)
        work()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = TRACEBACK
    sys.stdout.flush()
    os._exit(code)
