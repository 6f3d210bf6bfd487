import pytest
import torch

from mmselfsup_invp.ops.search import native


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, which on a busy machine wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=['compiled', 'pytorch'])
def compiled(request, monkeypatch) -> bool:
    """Both ways of the CPU, in C and in PyTorch; test_native.py checks the one in C further."""
    if request.param == 'pytorch':
        monkeypatch.setattr(native, 'available', lambda: False)
    elif not native.available():
        pytest.skip('the search in C is not compiled here')
    return request.param == 'compiled'
