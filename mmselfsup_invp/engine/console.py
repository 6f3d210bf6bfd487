"""A short log on the console; the log file has all of it."""

import logging

from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


class ConsoleFormatter(logging.Formatter):
    """Time and message; warnings and errors are marked as such."""

    def __init__(self) -> None:
        super().__init__('%(asctime)s  %(message)s', '%H:%M:%S')

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record."""
        if record.levelno > logging.INFO:
            record.message = f'{record.levelname}: {record.message}'
        return super().formatMessage(record)


def concerns_the_file_alone(record: logging.LogRecord) -> bool:
    """Whether a record is left to the log file.

    These are the environment, the config and the order of the hooks, which MMEngine logs in
    messages of many lines, and the name of the experiment, which it repeats every epoch.
    """
    message = str(record.msg)
    return record.levelno <= logging.INFO and ('\n' in message or message.startswith('Exp name:'))


@RUNNERS.register_module()
class ConciseRunner(Runner):
    """MMEngine's ``Runner`` with a short log on the console.

    The log file is that of MMEngine. ``tools/train.py`` uses this runner; a config chooses it for
    other tools by ``runner_type='ConciseRunner'``.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger and shorten what it writes to the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not concerns_the_file_alone(record))
                handler.setFormatter(ConsoleFormatter())
        logger.info(f'Log with environment and config: {logger.log_file}')
        return logger
