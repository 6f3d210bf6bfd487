import pytest

from mmselfsup_invp.ops.search import native, threshold


@pytest.fixture(params=['compiled', 'pytorch'])
def compiled(request, monkeypatch) -> bool:
    """Both ways to search on the CPU; the compiled one is checked further in test_native.py."""
    if request.param == 'pytorch':
        monkeypatch.setattr(native, 'available', lambda: False)
    elif not native.available():
        pytest.skip('the search in C is not compiled here')
    return request.param == 'compiled'


@pytest.fixture
def small_samples(monkeypatch):
    """Let a few hundred rows be enough for a sample, and let it mislead now and then."""
    monkeypatch.setattr(threshold, 'SAMPLE_STRIDE', 3)
    monkeypatch.setattr(threshold, 'SAMPLE_RANK', 3)
    monkeypatch.setattr(threshold, 'GPU_DEVIATIONS', 1)
    monkeypatch.setattr(threshold, 'CPU_DEVIATIONS', 1)
