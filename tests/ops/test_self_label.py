import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops import self_label as ops


class TestLoss:
    def test_golden_value(self):
        """C-G5 of METHODS: heads of different width, the shorter padded by impossible classes."""
        logits = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 1.5, -torch.inf]]], dtype=torch.float64)
        label = torch.tensor([[0, 0]])
        parts = [ops.self_label_loss(logits[:, [h]], label[:, [h]]).item() for h in (0, 1)]
        assert parts == pytest.approx([0.169846, 1.313262], abs=6e-7)
        assert ops.self_label_loss(logits, label).item() == pytest.approx(0.741554, abs=6e-7)

    def test_is_the_mean_of_the_heads_cross_entropies(self):
        logits = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
        label = torch.randint(5, (6, 3))
        found = ops.self_label_loss(logits, label)
        expected = torch.stack([F.cross_entropy(logits[:, h], label[:, h]) for h in range(3)])
        torch.testing.assert_close(found, expected.mean())
        grads = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected.mean())]
        torch.testing.assert_close(*grads)

    def test_one_head_is_plain_cross_entropy(self):
        logits, label = torch.randn(4, 1, 7), torch.randint(7, (4, 1))
        expected = F.cross_entropy(logits[:, 0], label[:, 0])
        torch.testing.assert_close(ops.self_label_loss(logits, label), expected)


class TestInitialLabels:
    def test_equal_shares_in_an_order_of_its_own_for_each_head(self):
        label = ops.initial_labels(7, 3, 2, torch.Generator().manual_seed(0))
        assert label.shape == (7, 2) and label.dtype == torch.int64
        for column in label.T.tolist():
            assert sorted(column) == sorted([0, 1, 2, 0, 1, 2, 0])  # C-G5.
        many = ops.initial_labels(300, 3, 2)
        assert not torch.equal(many[:, 0], many[:, 1])
        assert not torch.equal(many[:, 0], torch.arange(300) % 3)

    def test_the_generator_decides(self):
        one, same = (ops.initial_labels(50, 5, 2, torch.Generator().manual_seed(3)) for _ in 'ab')
        other = ops.initial_labels(50, 5, 2, torch.Generator().manual_seed(4))
        assert torch.equal(one, same) and not torch.equal(one, other)

    @pytest.mark.parametrize('classes', [0, 8])
    def test_too_many_classes_are_refused(self, classes):
        message = f'num_classes = {classes} is outside the valid range 1 to 7: 7 images'
        with pytest.raises(ValueError, match=message):
            ops.initial_labels(7, classes)


class TestSchedule:
    def test_golden_power(self):
        times = ops.relabel_times(1, 400, 100)
        start = [0, 0.040915, 0.163661, 0.368237, 0.654643, 1.022880]
        end = [377.074601, 384.971237, 392.949703, 401.01]
        assert times[:6] == pytest.approx(start, abs=6e-7)
        assert times[-4:] == pytest.approx(end, abs=6e-7) and len(times) == 100
        assert sum(time < 10 for time in times) == 16 and sum(time < 100 for time in times) == 50

    def test_golden_linear(self):
        times = ops.relabel_times(1, 400, 400, 'linear')
        assert times[:3] == pytest.approx([0, 1.005013, 2.010026], abs=6e-7)
        end = [398.990074, 399.995087, 401.0001]
        # METHODS rounds the step before it multiplies; the last one is exact.
        assert times[-3:] == pytest.approx(end, abs=2e-6)

    def test_times_are_in_images(self):
        one, many = ops.relabel_times(1, 20, 10), ops.relabel_times(500, 20, 10)
        assert many == pytest.approx([500 * time for time in one])

    def test_the_last_event_on_imagenet(self):
        """It only happens because the last batch of an epoch is counted as a full one."""
        iterations = ops.relabel_iterations(ops.relabel_times(1_281_167, 400, 100), 256)
        assert iterations[0] == 0 and iterations[-1] == 2_006_879 < 401 * 5005
        full = ops.relabel_times(5004 * 256, 400, 100)
        assert ops.relabel_iterations(full, 256)[-1] >= 401 * 5004

    @pytest.mark.parametrize('batch_size', [1, 3, 8, 32])
    def test_iterations_equal_the_official_loop(self, batch_size):
        times = ops.relabel_times(50, 6, 25)
        waiting, fired, iteration = times[::-1], [], 0
        while waiting:
            if iteration * batch_size >= waiting[-1]:
                waiting.pop()
                fired.append(iteration)
            iteration += 1
        found = ops.relabel_iterations(times, batch_size)
        assert found == fired and len(set(found)) == 25

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (
                dict(spacing='cubic'),
                "spacing = 'cubic' is not valid.* 'power', 'linear'",
            ),
            (dict(num_events=1), 'num_events = 1 is not valid. It must be an integer from 2'),
        ],
    )
    def test_wrong_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            ops.relabel_times(10, 5, **{'num_events': 10, **options})
