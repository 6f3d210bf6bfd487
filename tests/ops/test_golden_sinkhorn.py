"""Plans, passes and labels against values worked out apart from the code."""

import pytest
import torch

from mmselfsup_invp.ops.sinkhorn import scale_classes, sinkhorn_labels

from .plans import FOUR, SIX, THREE, plan


class TestGoldenValues:
    def assert_plan(self, log_prob, lambd, tol, expected):
        torch.testing.assert_close(
            plan(log_prob, lambd, tol),
            torch.tensor(expected, dtype=torch.float64),
            atol=6e-7,
            rtol=0,
        )

    def test_first_pass(self):
        scaling = scale_classes(lambda: [THREE], 1, 0.1, 1, 'official')
        expected = torch.tensor([0.652174, 2.142857], dtype=torch.float64)
        torch.testing.assert_close(scaling.log_class.exp(), expected, atol=6e-7, rtol=0)
        assert scaling.errors == pytest.approx([0.496894], abs=6e-7) and not scaling.converged
        first = [[0.244186, 0.089147], [0.183007, 0.150327], [0.104478, 0.228856]]
        found = (THREE + scaling.log_class).softmax(dim=1) / 3
        torch.testing.assert_close(found, torch.tensor(first).double(), atol=6e-7, rtol=0)

    @pytest.mark.parametrize(
        ('lambd', 'tol', 'expected'),
        [
            (1, 1e-9, [[0.234484, 0.098849], [0.171071, 0.162263], [0.094446, 0.238888]]),
            (2, 1e-9, [[0.282104, 0.051229], [0.173672, 0.159661], [0.044224, 0.289110]]),
            (10, 1e-9, [[0.333233, 0.000100], [0.166748, 0.166585], [0.000018, 0.333315]]),
            (10, 0.1, [[0.333234, 0.000099], [0.167283, 0.166050], [0.000018, 0.333315]]),
        ],
    )
    def test_plan_of_three_images(self, lambd, tol, expected):
        self.assert_plan(THREE, lambd, tol, expected)

    @pytest.mark.parametrize(
        ('lambd', 'expected'),
        [
            (
                1,
                [
                    *([0.182580, 0.067420], [0.136550, 0.113450]),
                    *([0.103123, 0.146877], [0.077747, 0.172253]),
                ],
            ),
            (
                10,
                [
                    *([0.249995, 0.000005], [0.234084, 0.015916]),
                    *([0.015719, 0.234281], [0.000202, 0.249798]),
                ],
            ),
        ],
    )
    def test_plan_of_four_images(self, lambd, expected):
        self.assert_plan(FOUR, lambd, 1e-9, expected)

    @pytest.mark.parametrize(
        ('log_prob', 'lambd', 'tol', 'passes', 'errors'),
        [
            (THREE, 1, 0.1, 11, [0.496894, 0.0]),
            (THREE, 2, 0.1, 11, [0.882399, 1.613394e-5]),
            (THREE, 10, 0.1, 21, [1.299988, 0.195949, 0.003221]),
            (FOUR, 1, 0.1, 11, None),
            (FOUR, 10, 0.1, 21, None),
            (FOUR, 25, 0.1, 31, None),
            (FOUR, 10, 0.01, 41, [2.676924, 0.149829, 0.039706, 0.011087, 0.003109]),
            (SIX, 1, 0.1, 11, None),
            (SIX, 10, 0.1, 21, None),
            (SIX, 25, 0.1, 51, None),
        ],
    )
    def test_official_passes_and_errors(self, log_prob, lambd, tol, passes, errors):
        _, info = sinkhorn_labels(log_prob, lambd, tol, criterion='official')
        assert info.iterations == passes and info.converged
        if errors is not None:
            assert info.errors == pytest.approx(errors, abs=6e-7)

    @pytest.mark.parametrize('criterion', ['relative', 'official'])
    @pytest.mark.parametrize(
        ('log_prob', 'lambd', 'labels', 'cost'),
        [
            *((THREE, lambd, [0, 0, 1], None) for lambd in (1, 2, 10)),
            *((FOUR, lambd, [0, 0, 1, 1], 0.612192) for lambd in (1, 10, 25)),
            (SIX, 1, [0, 0, 0, 1, 2, 2], 0.698693),
            *((SIX, lambd, [0, 0, 1, 1, 2, 2], 0.848693) for lambd in (10, 25)),
        ],
    )
    def test_labels(self, criterion, log_prob, lambd, labels, cost):
        label, info = sinkhorn_labels(log_prob, lambd, 0.01, criterion=criterion)
        assert label.dtype == torch.int64 and label.tolist() == labels
        assert info.sizes.tolist() == label.bincount().tolist()
        if cost:
            assert info.cost == pytest.approx(cost, abs=6e-7)
