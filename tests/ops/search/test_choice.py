"""The choice of the backend, and what is said about requests and backends that do not fit."""

import pytest
import torch

from mmselfsup_invp.ops import search, top_m
from mmselfsup_invp.ops.search import faiss, native, self_test
from mmselfsup_invp.ops.search.request import Request

from ..tools import unit_rows


@pytest.mark.parametrize('m', [0, 6])
def test_m_out_of_range_names_the_range(m):
    bank = unit_rows(5, 4, seed=19)
    with pytest.raises(ValueError, match=rf'm = {m} is outside the valid range 1 to 5'):
        top_m(bank, bank, m)


@pytest.mark.parametrize(
    ('hidden', 'message'),
    [
        (dict(exclude=torch.tensor([1])), r'exclude has the shape \(1,\) where \(3,\) is needed'),
        (dict(labels=torch.zeros(5)), r'labels must be the pair \(query_label, bank_label\)'),
        (
            dict(labels=(torch.zeros(3), torch.zeros(4))),
            r'bank_label has the shape \(4,\) where \(5,\) is needed: one entry for each row',
        ),
        (
            dict(labels=(torch.zeros(3, 1), torch.zeros(5))),
            r'query_label has the shape \(3, 1\) where \(3,\) is needed',
        ),
    ],
)
def test_what_is_hidden_has_to_fit(hidden, message):
    bank = unit_rows(5, 4, seed=20)
    with pytest.raises(ValueError, match=message):
        top_m(bank[:3], bank, 2, **hidden)


def test_an_excluded_row_narrows_the_range():
    bank = unit_rows(5, 4, seed=20)
    with pytest.raises(ValueError, match=r'm = 5 is outside the valid range 1 to 4'):
        top_m(bank, bank, 5, exclude=torch.arange(5))


@pytest.mark.parametrize(
    ('query', 'bank', 'message'),
    [
        (torch.ones(2, 3), torch.ones(5, 4), r'query has 3 dimensions where 4 are needed'),
        (torch.ones(2, 4), torch.ones(5, 4, dtype=torch.int64), r'bank must be a floating point'),
        (torch.ones(4), torch.ones(5, 4), r'query must be .* found torch.float32 of shape \(4,\)'),
    ],
)
def test_features_that_do_not_fit_are_refused(query, bank, message):
    with pytest.raises(ValueError, match=message):
        top_m(query, bank, 1)


class TestChoice:
    def test_unknown_backend_lists_those_there_are(self):
        bank = unit_rows(5, 3, seed=0)
        valid = "'auto', 'torch', 'native', 'triton', 'faiss'"
        with pytest.raises(
            ValueError, match=f"backend = 'gpu' is not valid. It must be one of {valid}"
        ):
            top_m(bank, bank, 1, backend='gpu')

    def test_missing_build_is_named(self, monkeypatch):
        monkeypatch.setattr(native, 'available', lambda: False)
        bank = unit_rows(5, 3, seed=0)
        message = r"backend = 'native' cannot be used: it was not compiled.* Usable here: 'auto', "
        with pytest.raises(ValueError, match=message):
            top_m(bank, bank, 1, backend='native')
        assert top_m(bank, bank, 1)[1].flatten().tolist() == [0, 1, 2, 3, 4]

    def test_faiss_cannot_hide_labels(self):
        bank, label = unit_rows(5, 3, seed=0), torch.zeros(5)
        with pytest.raises(ValueError, match=r"'faiss' cannot be used: it cannot hide rows by"):
            top_m(bank, bank, 1, labels=(label, label), backend='faiss')

    @pytest.mark.parametrize('name', ['faiss', 'triton'])
    def test_missing_library_is_named(self, name, monkeypatch):
        for module in (faiss, self_test):
            monkeypatch.setattr(module, 'find_spec', lambda name: None)
        self_test.kernels.cache_clear()
        bank = unit_rows(5, 3, seed=0)
        with pytest.raises(ValueError, match=rf"'{name}' cannot be used: .* is not installed"):
            top_m(bank, bank, 1, backend=name)

    @pytest.mark.parametrize(
        ('name', 'device', 'dtype', 'reason'),
        [
            ('native', 'meta', torch.float32, 'the bank is on meta, it searches on the CPU'),
            ('triton', 'meta', torch.float32, 'the bank is on meta, its kernels run on CUDA'),
            ('triton', 'cpu', torch.float64, 'the bank is torch.float64, its kernels read'),
            ('faiss', 'meta', torch.float32, 'the bank is on meta, it searches on the CPU and'),
        ],
    )
    def test_reason_is_named(self, name, device, dtype, reason):
        bank = torch.ones(5, 3, device=device, dtype=dtype)
        with pytest.raises(ValueError, match=f'cannot be used: {reason}'):
            top_m(bank, bank, 1, backend=name)

    @pytest.mark.parametrize('deterministic', [False, True])
    def test_kernels_are_taken_unless_runs_must_be_alike(self, deterministic, monkeypatch):
        bank = unit_rows(5, 3, seed=0)
        if self_test.unsupported_reason(bank):
            pytest.skip('no Triton')
        monkeypatch.setitem(search.PREFERRED, 'cpu', 'triton')  # As on CUDA.
        monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: deterministic)
        name = 'torch' if deterministic else 'triton'
        assert search._automatic(Request(bank, bank, 1)) == name

    def test_compiled_kernels_do_not_run_on_the_cpu(self, monkeypatch):
        pytest.importorskip('triton')
        monkeypatch.setattr(self_test.kernels(), 'INTERPRETED', False)
        bank = unit_rows(5, 3, seed=0)
        with pytest.raises(ValueError, match='with TRITON_INTERPRET=1 only'):
            top_m(bank, bank, 1, backend='triton')

    def test_old_triton_is_refused(self, monkeypatch):
        triton = pytest.importorskip('triton')
        monkeypatch.setattr(triton, '__version__', '2.1.0')
        self_test.kernels.cache_clear()
        reason = self_test.unsupported_reason(torch.ones(1, 1))
        self_test.kernels.cache_clear()
        assert reason == 'Triton is 2.1.0, needed is 3.5 or newer'

    def test_gpu_search_of_faiss_has_a_limit(self, monkeypatch):
        library = pytest.importorskip('faiss')
        monkeypatch.setattr(library, 'StandardGpuResources', object, raising=False)
        assert faiss._gpu_unsupported_reason(2048) is None
        assert faiss._gpu_unsupported_reason(2049).startswith('on GPUs it finds at most 2048 rows')
        monkeypatch.delattr(library, 'StandardGpuResources')
        assert 'built without GPUs' in faiss._gpu_unsupported_reason(1)

    @pytest.mark.parametrize('where', [0, 7])
    def test_faiss_leaves_rows_that_are_not_a_number_to_pytorch(self, where):
        pytest.importorskip('faiss')
        bank = unit_rows(40, 4, seed=12)
        bank[where] = torch.nan
        found = top_m(bank[1:3], bank, 40, backend='faiss')
        expected = top_m(bank[1:3], bank, 40, backend='torch')
        torch.testing.assert_close(found[0], expected[0], equal_nan=True)
