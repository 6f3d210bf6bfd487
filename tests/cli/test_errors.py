"""Errors of the user are one message; errors of the program keep their traceback."""

import logging

import pytest
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop

from mmselfsup_invp.cli.errors import plain_errors, was_interrupted
from mmselfsup_invp.datasets.transforms import UnreadableImage


def message(error, capsys, code=1):
    """What is printed for an error that ends the process."""
    with pytest.raises(SystemExit) as end, plain_errors():
        raise error
    assert end.value.code == code
    return capsys.readouterr().err


def raise_in_loop(error):
    """Raise an error from MMEngine's training loop."""
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop._runner = type('Runner', (), {'call_hook': lambda *_: (_ for _ in ()).throw(error)})()
    loop.run()


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (FileNotFoundError('no such list'), 'no such list'),
        (ValueError('hops = 0'), 'hops = 0'),
        (KeyError('Foo is not in the registry'), 'Foo is not in the registry'),
        (TypeError('needs a memory'), 'needs a memory'),
        (ValueError(), 'ValueError'),
    ],
)
def test_an_error_of_the_user_is_one_message(error, text, capsys):
    printed = message(error, capsys)
    assert f'error: {text}\n' in printed and 'Traceback (most' not in printed


def test_an_interrupt_is_no_error(capsys):
    assert message(KeyboardInterrupt(), capsys, 130).strip() == 'Interrupted.'
    assert message(KeyboardInterrupt('Resume by X'), capsys, 130).strip() == 'Resume by X'


def test_errors_after_an_interrupt_count_as_interrupts():
    def save():
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError('cannot close the file')

    with pytest.raises(RuntimeError) as caught:
        save()
    assert was_interrupted(caught.value) and was_interrupted(KeyboardInterrupt())
    assert not was_interrupted(RuntimeError())


def test_the_traceback_of_a_worker_is_left_out(capsys):
    error = UnreadableImage(
        'Caught UnreadableImage in worker 0.\nOriginal Traceback (most recent call last):\n'
        '  File "x.py"\nmmselfsup_invp.UnreadableImage: Cannot read the image 1.png'
    )
    printed = message(error, capsys)
    assert 'error: mmselfsup_invp.UnreadableImage: Cannot read the image 1.png\n' in printed


@pytest.mark.parametrize('error', [RuntimeError('a bug'), ZeroDivisionError(), AssertionError()])
def test_errors_of_the_program_are_raised(error):
    with pytest.raises(type(error)), plain_errors():
        raise error


def test_a_type_error_in_the_loop_is_one_of_the_program(capsys):
    with pytest.raises(TypeError, match='deep'), plain_errors():
        raise_in_loop(TypeError('deep'))
    with pytest.raises(SystemExit), plain_errors():
        raise_in_loop(ValueError('no memory left'))
    assert 'no memory left' in capsys.readouterr().err


def test_debug_raises_all_errors():
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), plain_errors(debug=True):
            raise error


def test_the_traceback_goes_to_the_log_unless_the_disk_is_full(capsys, tmp_path):
    logger = MMLogger.get_instance('run', log_file=str(tmp_path / 'run.log'))
    assert f'Traceback: {tmp_path / "run.log"}' in message(ValueError('wrong'), capsys)
    assert 'ValueError: wrong' in (tmp_path / 'run.log').read_text()
    (handler,) = (one for one in logger.handlers if isinstance(one, logging.FileHandler))
    handler.baseFilename = '/dev/full'
    printed = message(ValueError('wrong'), capsys)
    assert 'error: wrong\n--debug shows the traceback.' in printed
