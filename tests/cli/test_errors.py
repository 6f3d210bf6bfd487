"""What is wrong is said in one message at the end; a fault of the program keeps its traceback."""

import pytest
from mmengine.registry import Registry
from mmengine.runner import BaseLoop
from mmselfsup.registry import MODELS

from mmselfsup_invp.cli.errors import plain_errors, was_stopped
from mmselfsup_invp.datasets.transforms import UnreadableImage


def told(error, capsys, code=1):
    """The message of an error that ends the process."""
    with pytest.raises(SystemExit) as end, plain_errors():
        raise error if isinstance(error, BaseException) else error()
    assert end.value.code == code
    return capsys.readouterr().err


class Loop(BaseLoop):
    """A loop that only fails."""

    def __init__(self, error):
        self.error = error

    def run(self):
        raise self.error


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (FileNotFoundError('no such list'), 'no such list'),
        (ValueError('hops = 0'), 'hops = 0'),
        (KeyError('Foo is not in the registry'), 'error: Foo is not in the registry'),
        (TypeError('needs a memory'), 'needs a memory'),
        (ValueError(), 'error: ValueError'),
    ],
)
def test_an_error_is_one_message(error, text, capsys):
    said = told(error, capsys)
    assert f'error: {text.removeprefix("error: ")}\n' in said and 'Traceback (most' not in said


def test_stopping_is_no_error(capsys):
    assert told(KeyboardInterrupt(), capsys, 130).strip() == 'Stopped.'
    assert told(KeyboardInterrupt('Go on with X'), capsys, 130).strip() == 'Go on with X'


def test_what_fails_because_it_was_stopped_counts_as_stopped():
    def save():
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError('cannot close the file')

    with pytest.raises(RuntimeError) as caught:
        save()
    assert was_stopped(caught.value) and was_stopped(KeyboardInterrupt())
    assert not was_stopped(RuntimeError())


def test_of_an_error_in_a_worker_the_last_line_counts(capsys):
    error = UnreadableImage(
        'Caught UnreadableImage in worker 0.\nOriginal Traceback (most recent call last):\n'
        '  File "x.py"\nmmselfsup_invp.UnreadableImage: Cannot read the image 1.png'
    )
    assert 'error: mmselfsup_invp.UnreadableImage: Cannot read the image 1.png\n' in told(
        error, capsys
    )


@pytest.mark.parametrize('error', [RuntimeError('a bug'), ZeroDivisionError(), AssertionError()])
def test_faults_of_the_program_pass_through(error):
    with pytest.raises(type(error)), plain_errors():
        raise error


def test_once_the_loop_runs_a_type_error_is_a_fault_of_the_program(capsys):
    with pytest.raises(TypeError, match='deep'), plain_errors():
        Loop(TypeError('deep')).run()
    assert 'no memory left' in told(Loop(ValueError('no memory left')).run, capsys)


def test_debug_lets_everything_through():
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), plain_errors(debug=True):
            raise error


class TestUnknownOptions:
    def test_the_right_ones_are_named(self, capsys):
        config = dict(type='InvPHead', hop=2, loss=dict(type='HardSamplingLoss'))
        said = told(lambda: MODELS.build(config), capsys)
        assert "InvPHead has no option 'hop'. Did you mean hops? Its options: loss, " in said

    def test_of_parents_too(self, capsys):
        said = told(lambda: MODELS.build(dict(type='PropagationMemory', featdim=2)), capsys)
        assert "PropagationMemory has no option 'featdim'. Did you mean feat_dim" in said
        assert 'num_neighbours' in said and 'momentum' in said and 'dtype' in said

    def test_of_functions(self, capsys):
        registry = Registry('things')

        @registry.register_module()
        def thing(size=1):
            return size

        said = told(lambda: registry.build(dict(type='thing', siz=2)), capsys)
        assert "thing has no option 'siz'. Did you mean size? Its options: size." in said

    def test_of_what_no_registry_builds(self, capsys):
        said = told(lambda: Loop(bug=1), capsys)
        assert "Loop has no option 'bug'. Its options: error." in said

    def test_of_what_a_component_builds_by_itself(self, capsys):
        registry = Registry('things')

        @registry.register_module()
        class Thing:
            def __init__(self):
                Loop(bug=1)

        said = told(lambda: registry.build(dict(type='Thing')), capsys)
        assert "Loop has no option 'bug'. Its options: error." in said
