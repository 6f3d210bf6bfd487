import pytest
import torch

from mmselfsup_invp.ops.search import native, threshold

# From the plainest on: a processor can run the builds up to its own.
KINDS = {'DEFAULT': '_native', 'AVX2': '_native_avx2', 'AVX512': '_native_avx512'}
OWN = native.cpu_capability() if native.cpu_capability() in KINDS else 'DEFAULT'
RUNNABLE = list(KINDS)[: list(KINDS).index(OWN) + 1]


@pytest.fixture
def fresh():
    """Loads the library anew, and once more when the test is over."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture(params=RUNNABLE)
def build(request, fresh, monkeypatch) -> str:
    monkeypatch.setattr(native, 'cpu_capability', lambda: request.param)
    if not native.available():
        pytest.skip('the search in C is not compiled here')
    return KINDS[request.param]


@pytest.fixture(params=[1, 2, 3])
def threads(request) -> int:
    torch.set_num_threads(request.param)
    return request.param


@pytest.fixture
def small_samples(monkeypatch):
    """Let a few hundred rows be enough for a sample, and let it mislead now and then."""
    monkeypatch.setattr(threshold, 'SAMPLE_STRIDE', 3)
    monkeypatch.setattr(threshold, 'SAMPLE_RANK', 3)
    monkeypatch.setattr(threshold, 'GPU_DEVIATIONS', 1)
    monkeypatch.setattr(threshold, 'CPU_DEVIATIONS', 1)
