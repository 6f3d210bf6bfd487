import pytest
import torch

from mmselfsup_invp.memory import NonFiniteFeatures, NonFiniteMonitor

from .tools import NOT_FINITE, rows


@pytest.mark.parametrize('bad', NOT_FINITE)
def test_features_that_are_not_finite_are_found_and_named(bad):
    monitor = NonFiniteMonitor()
    monitor.iteration = 12
    feature = rows(4)
    feature[1, 2] = feature[3, 0] = bad
    finite = monitor.watch(torch.tensor([4, 9, 1, 6]), feature)
    assert finite.tolist() == [True, False, True, False]
    message = r'NaN or Inf in iteration 12, first for the samples \[9, 6\]'
    with pytest.raises(NonFiniteFeatures, match=message):
        monitor.check()


def test_nothing_is_raised_while_all_are_finite():
    monitor = NonFiniteMonitor()
    for iteration in range(3):
        monitor.iteration = iteration
        assert monitor.watch(torch.arange(20), rows(20)).all()
        monitor.check()


def test_the_first_are_kept_at_most_eight():
    monitor = NonFiniteMonitor()
    for iteration, ids in ((1, range(5)), (2, range(5, 20)), (3, range(30, 34))):
        monitor.iteration = iteration
        feature = rows(len(ids))
        if iteration > 1:
            feature[1:] = torch.nan
        monitor.watch(torch.tensor(ids), feature)
    with pytest.raises(NonFiniteFeatures) as raised:
        monitor.check()
    assert f'iteration 2, first for the samples {list(range(6, 14))}' in str(raised.value)


def test_iteration_and_sample_0_count():
    monitor = NonFiniteMonitor()
    for monitor.iteration in (0, 1):
        monitor.watch(torch.tensor([monitor.iteration]), torch.tensor([[torch.nan]]))
    with pytest.raises(NonFiniteFeatures, match=r'iteration 0, first for the samples \[0\]'):
        monitor.check()


def test_the_record_moves_with_the_module_and_is_not_saved():
    monitor = NonFiniteMonitor()
    assert not monitor.state_dict()
    assert {buffer.device.type for buffer in monitor.to('meta').buffers()} == {'meta'}
