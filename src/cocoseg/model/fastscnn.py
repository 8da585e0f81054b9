"""Fast-SCNN, written from the paper: Poudel, Liwicki, Cipolla 2019, "Fast-SCNN: Fast Semantic Segmentation Network".

https://arxiv.org/abs/1902.04502, table 1. Sizes below are for an input of (N, 3, H, W).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FastSCNN(nn.Module):
    """Fast-SCNN: images (N, 3, H, W) to logits (N, classes, H, W), for any height and width of at least 32."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.learning_to_downsample = nn.Sequential(
            _conv_bn_relu(3, 32, kernel=3, stride=2),
            _depthwise_separable(32, 48, stride=2),
            _depthwise_separable(48, 64, stride=2),
        )
        self.global_features = nn.Sequential(
            *_bottlenecks(64, 64, count=3, stride=2),
            *_bottlenecks(64, 96, count=3, stride=2),
            *_bottlenecks(96, 128, count=3, stride=1),
            PyramidPooling(128, 128),
        )
        self.fusion = FeatureFusion(high_channels=64, low_channels=128, out_channels=128)
        self.classifier = nn.Sequential(
            _depthwise_separable(128, 128, stride=1),
            _depthwise_separable(128, 128, stride=1),
            nn.Dropout(0.1),
            nn.Conv2d(128, classes, kernel_size=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits at the size of the input."""
        high = self.learning_to_downsample(images)  # (N, 64, H/8, W/8)
        low = self.global_features(high)  # (N, 128, H/32, W/32)
        logits = self.classifier(self.fusion(high, low))  # (N, classes, H/8, W/8)
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual: expand 6×, depthwise 3×3, project without an activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            _conv_bn_relu(in_channels, inner, kernel=1),
            _conv_bn_relu(inner, inner, kernel=3, stride=stride, groups=inner),
            nn.Conv2d(inner, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H/stride, W/stride)."""
        out: Tensor = self.block(features)
        return features + out if self.residual else out


class PyramidPooling(nn.Module):
    """Context at four scales beside the features themselves. Zhao et al. 2017, https://arxiv.org/abs/1612.01105"""

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        inner = in_channels // len(bins)
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(_conv_bn_relu(in_channels, inner, kernel=1) for _ in bins)
        self.project = _conv_bn_relu(in_channels + inner * len(bins), out_channels, kernel=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        scales = [features]
        for size, branch in zip(self.bins, self.branches, strict=True):
            pooled = branch(F.adaptive_avg_pool2d(features, size))  # (N, in/4, size, size)
            scales.append(F.interpolate(pooled, size=features.shape[-2:], mode="bilinear", align_corners=False))
        projected: Tensor = self.project(torch.cat(scales, dim=1))
        return projected


class FeatureFusion(nn.Module):
    """The sum of the coarse context, enlarged, and the fine features."""

    def __init__(self, high_channels: int, low_channels: int, out_channels: int) -> None:
        super().__init__()
        self.low_depthwise = _conv_bn_relu(low_channels, low_channels, kernel=3, groups=low_channels)
        self.low_project = _conv_bn(low_channels, out_channels)
        self.high_project = _conv_bn(high_channels, out_channels)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """Map (N, high, H, W) and (N, low, H/4, W/4) to (N, out, H, W)."""
        low = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=False)
        return F.relu(self.high_project(high) + self.low_project(self.low_depthwise(low)))


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1), nn.BatchNorm2d(out_channels))


def _depthwise_separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_bn_relu(in_channels, in_channels, kernel=3, stride=stride, groups=in_channels),
        _conv_bn_relu(in_channels, out_channels, kernel=1),
    )


def _bottlenecks(in_channels: int, out_channels: int, count: int, stride: int) -> list[Bottleneck]:
    first = Bottleneck(in_channels, out_channels, stride)
    return [first, *(Bottleneck(out_channels, out_channels, stride=1) for _ in range(count - 1))]
