"""The terms of the paper's equation 6 and those that supervise the edit head, each a small module.

A stage keeps its terms in one dict, `total = sum(weight[name] * term)`, and logs the same dict.
Predictions and targets are compared in float32, whatever the networks computed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `values`, weighted by `weight` broadcast to their shape; 0 where all weight is 0."""
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)


class ReconstructionLoss(nn.Module):
    """L_rec: mean absolute difference of two pictures, optionally weighted per pixel.

    Shape:
        predicted, target: (B, C, H, W); weight: (B, 1, H, W), 0 or more. returns: ().
    """

    def forward(self, predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return weighted_mean((predicted.float() - target.float()).abs(), weight)


class MouthLoss(nn.Module):
    """L_mou: mean absolute difference inside the mouth box of each picture.

    Shape:
        predicted, target: (B, C, H, W); boxes: (B, 4) pixels, left, top, right, bottom; right and bottom excluded.
        returns: (); 0 if every box is empty.
    """

    def forward(self, predicted: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
        height, width = predicted.shape[-2:]
        x = torch.arange(width, device=predicted.device)[None, None, :]
        y = torch.arange(height, device=predicted.device)[None, :, None]
        left, top, right, bottom = boxes.to(predicted.device)[:, :, None, None].unbind(1)  # (B, 1, 1) each
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)  # (B, H, W)
        return weighted_mean((predicted.float() - target.float()).abs(), inside[:, None])


class TotalVariationLoss(nn.Module):
    """L_TV: mean absolute difference between neighbouring pixels, along x plus along y.

    Shape:
        picture: (B, C, H, W), at least 2x2. returns: ().
    """

    def forward(self, picture: Tensor) -> Tensor:
        picture = picture.float()
        across = (picture[..., :, 1:] - picture[..., :, :-1]).abs().mean()
        down = (picture[..., 1:, :] - picture[..., :-1, :]).abs().mean()
        return across + down


class LSGANLoss(nn.Module):
    """L_adv: least-squares adversarial loss; real shall score 1, fake 0.

    Source:
        Mao et al., Least Squares GANs (ICCV 2017), equation 2 with a = 0, b = c = 1.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator lowers, from its scores of real and of (detached) made pictures."""
        return 0.5 * ((real.float() - 1).square().mean() + fake.float().square().mean())

    def generator(self, fake: Tensor) -> Tensor:
        """What the generator lowers, from the discriminator's scores of what it made."""
        return 0.5 * (fake.float() - 1).square().mean()


class ContentLoss(nn.Module):
    """L_con: mean absolute difference of features that a frozen network gives, summed over its layers.

    Args:
        features: picture (B, 3, H, W) -> feature maps; frozen here and kept in eval mode.
        weights: one per feature map; all 1 by default.
    """

    def __init__(self, features: Callable[[Tensor], Sequence[Tensor]], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.features = features
        self.weights = weights
        if isinstance(features, nn.Module):
            features.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ContentLoss:
        """Frozen networks stay in eval mode, whatever their owner is set to."""
        return super().train(False)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        found = self.features(predicted)
        weights = self.weights or [1.0] * len(found)
        terms = [w * F.l1_loss(a.float(), b.float()) for w, a, b in zip(weights, found, wanted, strict=True)]
        return torch.stack(terms).sum()


class ClassificationLoss(nn.Module):
    """L_cem and L_cin: cross entropy of emotion or intensity scores.

    Shape:
        logits: (B, N); target: (B,) class numbers, -1 for "no class" (a neutral face has no intensity), or
        (B, N) shares of a blend, rows of sum 0 for "no class". returns: (); 0 if no sample has a class.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logs = F.log_softmax(logits.float(), dim=1)
        if target.dim() == 1:
            known = target >= 0
            shares = F.one_hot(target.clamp_min(0), logits.shape[1]) * known[:, None]
        else:
            shares = target
            known = target.sum(1) > 0
        return -(logs * shares).sum() / known.sum().clamp_min(1)


class RegressionLoss(nn.Module):
    """L_reg (equation 1): mean squared difference of PCA coefficients.

    Shape:
        predicted, target: (..., K); weight: (...), 0 for frames that are padding. returns: ().
    """

    def forward(self, predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        squares = (predicted.float() - target.float()).square()
        return weighted_mean(squares, None if weight is None else weight[..., None])


class FlowLoss(nn.Module):
    """Mean end-point error: distance between predicted and true displacement.

    Shape:
        predicted, target: (B, 2, H, W) pixels; weight: (B, 1, H, W), 0 where the truth is unknown.
        returns: () pixels.
    """

    def forward(self, predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        squares = (predicted.float() - target.float()).square().sum(1, keepdim=True)
        distance = (squares + 1e-8).sqrt() - 1e-4  # the root of 0 has no gradient
        return weighted_mean(distance, weight)


class MaskLoss(nn.Module):
    """Binary cross entropy of a mask that is already in [0, 1].

    Shape:
        predicted, target: (B, 1, H, W) in [0, 1]; weight: the same or broadcastable. returns: () nats.
    """

    def forward(self, predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        predicted, target = predicted.float().clamp(1e-4, 1 - 1e-4), target.float()
        entropy = -(target * predicted.log() + (1 - target) * (1 - predicted).log())
        return weighted_mean(entropy, weight)


class Adversary:
    """A discriminator with its optimizer and loss: all that a stage needs to play against.

    Saved and restored by the loop as one part of a stage's state.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.network, self.optimizer, self.loss = network, optimizer, LSGANLoss()

    def discriminate(self, real: Tensor, fake: Tensor) -> Tensor:
        """Update the discriminator once; returns its loss, detached."""
        loss = self.loss.discriminator(self.network(real), self.network(fake.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def generator(self, fake: Tensor) -> Tensor:
        """The adversarial term for the generator; leaves no gradient in the discriminator."""
        self.network.requires_grad_(False)
        try:
            return self.loss.generator(self.network(fake))
        finally:
            self.network.requires_grad_(True)

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore both."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
