import pytest

from mmselfsup_invp.ops.search import native


@pytest.fixture(params=['compiled', 'pytorch'])
def compiled(request, monkeypatch) -> bool:
    """Both ways to search on the CPU; the compiled one is checked further in test_native.py."""
    if request.param == 'pytorch':
        monkeypatch.setattr(native, 'available', lambda: False)
    elif not native.available():
        pytest.skip('the search in C is not compiled here')
    return request.param == 'compiled'
