"""Each term against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from emotalk.config import DiscriminatorConfig
from emotalk.errors import ConfigError
from emotalk.losses import (
    Adversary,
    ClassificationLoss,
    ContentLoss,
    FlowLoss,
    LSGANLoss,
    MaskLoss,
    MouthLoss,
    ReconstructionLoss,
    RegressionLoss,
    TotalVariationLoss,
)
from emotalk.nets.discriminator import PatchDiscriminator


def picture(value: float, size: int = 4) -> Tensor:
    return torch.full((2, 3, size, size), value)


def test_reconstruction_is_the_mean_absolute_difference() -> None:
    loss = ReconstructionLoss()
    assert loss(picture(0.5), picture(0.5)) == 0
    assert float(loss(picture(-0.25), picture(0.5))) == pytest.approx(0.75)


def test_reconstruction_weight_chooses_pixels() -> None:
    target = picture(0.0)
    predicted = picture(0.0)
    predicted[:, :, 0, 0] = 1.0
    weight = torch.zeros(2, 1, 4, 4)
    assert ReconstructionLoss()(predicted, target, weight) == 0  # nothing counts
    weight[:, :, 0, :2] = 1.0
    assert float(ReconstructionLoss()(predicted, target, weight)) == pytest.approx(0.5)


def test_mouth_looks_only_inside_its_boxes() -> None:
    predicted, target = picture(0.0), picture(0.0)
    predicted[0, :, 1, 2] = 1.0  # y = 1, x = 2
    boxes = torch.tensor([[2, 1, 4, 3], [0, 0, 2, 2]])  # 4 pixels each; the first holds the difference
    assert float(MouthLoss()(predicted, target, boxes)) == pytest.approx(1 / 8)
    swapped = torch.tensor([[1, 2, 3, 4], [0, 0, 2, 2]])  # x and y exchanged: misses it
    assert MouthLoss()(predicted, target, swapped) == 0
    assert MouthLoss()(predicted, target, torch.zeros(2, 4)) == 0  # empty boxes


def test_total_variation_of_a_constant_is_zero_and_of_a_ramp_its_slope() -> None:
    loss = TotalVariationLoss()
    assert loss(picture(0.3)) == 0
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)  # grows by 1 per column
    assert float(loss(ramp)) == pytest.approx(1.0)
    assert float(loss(ramp + 0.5 * ramp.mT)) == pytest.approx(1.5)


def test_lsgan_on_perfect_inverted_and_undecided_scores() -> None:
    loss, one, zero = LSGANLoss(), torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert loss.discriminator(one, zero) == 0
    assert loss.discriminator(zero, one) == 1
    assert loss.discriminator(one / 2, one / 2) == 0.25
    assert loss.generator(one) == 0
    assert loss.generator(zero) == 0.5


class Halves(nn.Module):
    """Two feature maps that are easy to do by hand; dropout shows whether it is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.dropout(x * self.factor), x[..., ::2, ::2] * 4]


def test_content_sums_the_layers_and_leaves_the_features_frozen() -> None:
    loss = ContentLoss(Halves())
    predicted = picture(0.5).requires_grad_()
    value = loss.train()(predicted, picture(0.25))
    assert float(value.detach()) == pytest.approx(0.25 * 2 + 0.25 * 4)
    value.backward()
    assert predicted.grad is not None and float(predicted.grad.abs().sum()) > 0
    assert all(not p.requires_grad and p.grad is None for p in loss.parameters())
    half = ContentLoss(Halves(), weights=(1.0, 0.5))(predicted, picture(0.25))
    assert float(half.detach()) == pytest.approx(1.0)


def test_classification_of_even_scores_is_the_logarithm_of_the_classes() -> None:
    loss, logits = ClassificationLoss(), torch.zeros(3, 8)
    assert float(loss(logits, torch.tensor([0, 5, 7]))) == pytest.approx(math.log(8))
    sure = torch.full((3, 8), -100.0)
    sure[:, 2] = 100.0
    assert float(loss(sure, torch.tensor([2, 2, 2]))) == pytest.approx(0.0, abs=1e-6)


def test_classification_skips_samples_without_a_class() -> None:
    loss, logits = ClassificationLoss(), torch.randn(2, 3)
    alone = loss(logits[:1], torch.tensor([1]))
    assert torch.allclose(loss(logits, torch.tensor([1, -1])), alone)
    assert loss(logits, torch.tensor([-1, -1])) == 0
    shares = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(loss(logits, shares), alone)


def test_classification_of_a_blend_is_lowest_at_the_blend() -> None:
    loss, shares = ClassificationLoss(), torch.tensor([[0.6, 0.4]])
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    assert float(loss(shares.log(), shares)) == pytest.approx(entropy)
    assert float(loss(torch.zeros(1, 2), shares)) > entropy


def test_regression_is_the_mean_square_and_skips_padding() -> None:
    predicted, target = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    predicted[:, 0] = 2.0
    assert float(RegressionLoss()(predicted, target)) == pytest.approx(2.0)
    assert float(RegressionLoss()(predicted, target, torch.tensor([[1.0, 0.0]]))) == pytest.approx(4.0)


def test_flow_error_is_the_distance_in_pixels() -> None:
    predicted = torch.zeros(1, 2, 2, 2)
    target = torch.tensor([3.0, 4.0])[None, :, None, None].expand(1, 2, 2, 2)
    assert float(FlowLoss()(predicted, target)) == pytest.approx(5.0, abs=1e-3)
    weight = torch.zeros(1, 1, 2, 2)
    assert FlowLoss()(predicted, target, weight) == 0


def test_flow_error_has_a_finite_gradient_where_it_is_zero() -> None:
    flow = torch.zeros(1, 2, 2, 2, requires_grad=True)
    value = FlowLoss()(flow, torch.zeros(1, 2, 2, 2))
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert flow.grad is not None and bool(flow.grad.isfinite().all())


def test_mask_entropy() -> None:
    loss, half = MaskLoss(), torch.full((1, 1, 2, 2), 0.5)
    assert float(loss(half, torch.ones(1, 1, 2, 2))) == pytest.approx(math.log(2))
    assert float(loss(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))) == pytest.approx(1e-4, rel=1e-2)
    assert math.isfinite(float(loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))))


@pytest.mark.parametrize("loss", [ReconstructionLoss(), FlowLoss(), MaskLoss()])
def test_half_precision_is_compared_in_float32(loss: nn.Module) -> None:
    predicted = torch.rand(1, 2, 4, 4).bfloat16()
    assert loss(predicted, torch.rand(1, 2, 4, 4)).dtype == torch.float32


@pytest.mark.parametrize("normalisation", ["spectral", "instance"])
def test_discriminator_scores_patches_and_learns(normalisation: str) -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig(width=8, levels=2, normalisation=normalisation))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 1, 6, 6)
    adversary = Adversary(network, torch.optim.Adam(network.parameters(), 1e-2))
    real = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    fake = real * 0.3 - 0.5
    losses = [float(adversary.discriminate(real, fake)) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    assert float(adversary.generator(fake)) > float(adversary.generator(real))


def test_discriminator_patch_is_70_pixels() -> None:
    network = PatchDiscriminator(DiscriminatorConfig(width=4, normalisation="instance")).eval()
    for layer in network.layers:  # instance statistics reach over the whole picture; leave them out
        if isinstance(layer, nn.InstanceNorm2d):
            layer.forward = lambda x: x  # type: ignore[method-assign]
    x = torch.randn(1, 3, 128, 128, requires_grad=True)
    network(x)[0, 0, 7, 7].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_generator_term_leaves_the_discriminator_alone() -> None:
    network = PatchDiscriminator(DiscriminatorConfig(width=4, levels=1))
    adversary = Adversary(network, torch.optim.Adam(network.parameters()))
    fake = torch.randn(1, 3, 16, 16, requires_grad=True)
    adversary.generator(fake).backward()
    assert fake.grad is not None and float(fake.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_discriminator_does_not_teach_the_generator() -> None:
    network = PatchDiscriminator(DiscriminatorConfig(width=4, levels=1))
    adversary = Adversary(network, torch.optim.Adam(network.parameters()))
    fake = torch.randn(1, 3, 16, 16, requires_grad=True)
    adversary.discriminate(torch.randn(1, 3, 16, 16), fake)
    assert fake.grad is None


def test_discriminator_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="normalisation is 'batch'"):
        DiscriminatorConfig(normalisation="batch")
    with pytest.raises(ConfigError, match="levels is 0"):
        DiscriminatorConfig(levels=0)
