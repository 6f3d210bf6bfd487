import pytest

from mmselfsup_invp.ops.search import threshold


@pytest.fixture
def small_samples(monkeypatch):
    """Let a few hundred rows be enough for a sample, and let it mislead now and then."""
    monkeypatch.setattr(threshold, 'SAMPLE_STRIDE', 3)
    monkeypatch.setattr(threshold, 'SAMPLE_RANK', 3)
    monkeypatch.setattr(threshold, 'GPU_DEVIATIONS', 1)
    monkeypatch.setattr(threshold, 'CPU_DEVIATIONS', 1)
