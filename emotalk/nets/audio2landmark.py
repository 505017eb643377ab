"""MFCC windows -> motion of the lower face: which way lips and jaw have moved from rest, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import Audio2LandmarkConfig
from ..landmarks import LOWER_POINTS, Basis

CHUNK = 1500  # video frames run through the LSTM at once; a minute at 25 fps
OVERLAP = 250  # video frames of context on either side of a chunk: the LSTM has forgotten what lies farther away


class Audio2Landmark(nn.Module):
    """Speech to PCA coefficients of the lower face's displacement from the speaker's resting, closed mouth.

    Displacement, not position, so that it can be added to the resting landmarks of any face with any emotion.

    Source:
        Wang et al., MEAD (ECCV 2020), audio-to-landmarks module (`recurrent="window"`). The bidirectional LSTM over
        frames replaces it by default: a window alone cannot know how wide this speaker opens or what comes next.
    """

    basis_mean: Tensor
    basis_components: Tensor
    basis_scale: Tensor

    def __init__(self, config: Audio2LandmarkConfig) -> None:
        super().__init__()
        self.config = config
        size = 2 * LOWER_POINTS
        self.register_buffer("basis_mean", torch.zeros(size))
        self.register_buffer("basis_components", torch.eye(config.components, size))
        self.register_buffer("basis_scale", torch.ones(config.components))
        dropout = config.dropout if config.layers > 1 else 0.0
        if config.recurrent == "window":
            self.encoder: nn.Module = nn.Identity()
            self.lstm = nn.LSTM(config.features, config.units, config.layers, batch_first=True, dropout=dropout)
            self.head: nn.Module = nn.Linear(config.units, config.components)
            return
        blocks: list[nn.Module] = []
        channels, length = config.features, config.context
        for width in config.channels:
            blocks += [
                nn.Conv1d(channels, width, 5 if not blocks else 3, stride=2, padding=2 if not blocks else 1),
                nn.GELU(),
            ]
            channels, length = width, (length + 1) // 2
        blocks += [nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels * length, config.embedding), nn.GELU()]
        self.encoder = nn.Sequential(*blocks)
        self.lstm = nn.LSTM(
            config.embedding, config.units, config.layers, batch_first=True, bidirectional=True, dropout=dropout
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * config.units, config.components))

    def set_basis(self, basis: Basis) -> None:
        """Take over a PCA basis; its size must be `config.components`."""
        self.basis_mean.copy_(torch.from_numpy(basis.mean))
        self.basis_components.copy_(torch.from_numpy(basis.components))
        self.basis_scale.copy_(torch.from_numpy(basis.scale))

    def forward(self, windows: Tensor) -> Tensor:
        """Coefficients in units of their standard deviation in the corpus.

        Shape:
            windows: (B, T, context, features), one window per video frame at `config.fps`.
            returns: (B, T, components).
        """
        batch, frames = windows.shape[:2]
        flat = windows.flatten(0, 1)  # (B*T, context, features)
        if self.config.recurrent == "window":
            last = self.lstm(flat)[0][:, -1]  # (B*T, units)
            return self.head(last).unflatten(0, (batch, frames))  # type: ignore[no-any-return]
        codes = self.encoder(flat.transpose(1, 2)).unflatten(0, (batch, frames))  # (B, T, embedding)
        return self.head(self.lstm(codes)[0])  # type: ignore[no-any-return]

    def decode(self, coefficients: Tensor) -> Tensor:
        """Coefficients (..., K) -> displacements (..., 37, 2) in face units."""
        rows = (coefficients * self.basis_scale) @ self.basis_components + self.basis_mean
        return rows.unflatten(-1, (LOWER_POINTS, 2))

    @torch.inference_mode()
    def displacements(self, windows: Tensor, *, chunk: int = CHUNK, overlap: int = OVERLAP) -> Tensor:
        """Motion of the lower face for speech of any length, in bounded memory.

        Long speech runs in chunks that see `overlap` frames of context on either side, so that the seams are as good
        as one run over the whole.

        Shape:
            windows: (B, T, context, features), on any device; each chunk is moved to the network's.
            returns: (B, T, 37, 2) float32 on the network's device, face units (crop pixels / 64), x then y.
        """
        frames = windows.shape[1]
        pieces = []
        for start in range(0, frames, chunk):
            first, last = max(0, start - overlap), min(frames, start + chunk + overlap)
            seen = windows[:, first:last].to(self.basis_mean)
            pieces.append(self.decode(self(seen)[:, start - first : start - first + chunk]))
        if not pieces:
            return windows.new_zeros(windows.shape[0], 0, LOWER_POINTS, 2)
        return torch.cat(pieces, 1).float()
