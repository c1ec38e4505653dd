"""Elementwise dropout that costs little on a CPU."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which on a CPU draws one random number an element; at probability 1/2 a byte does.

    Of a small head on cached maps a seventh of the training time was spent on these numbers.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Any shape and floating-point type; in training about half of the elements become 0, the others double."""
        if not self.training or self.p != 0.5 or values.device.type != "cpu":
            return super().forward(values)
        words = torch.randint(-(2**63), 2**63 - 1, (values.numel() // 8 + 1,))
        keep = words.view(torch.uint8)[: values.numel()] < 128
        factors = torch.empty_like(values, requires_grad=False)
        # Which element takes which byte does not matter; both are then read in the order in which they lie.
        factors.as_strided((values.numel(),), (1,)).copy_(keep).mul_(2)
        return values * factors
