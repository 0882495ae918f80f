"""Memory for what a forward pass keeps for its way back: blocks that stay, filled from their beginning in every step.

Left to the C library, what is kept lies among what is not, and splits its holes: with glibc 2.36, whose aligned memory is
seldom used again (https://sourceware.org/bugzilla/show_bug.cgi?id=14581), a step of Qwen3-0.6B's shape that keeps 2.7 GiB
held 5.2, and more with every step until the fourth. A fresh mapping for every tensor holds no more than is needed, and
touches its pages for the first time each time: a third to a half more processor time.
"""

import math
from typing import Any

import torch

# More than the C library takes from its heap; what is not written to takes no memory.
_BLOCK = 64 * 2**20
# Bytes: torch's own alignment.
_ALIGN = 64


class Arena:
    """Tensors side by side in a few blocks. They hold until the next `reset`, and what is kept must be one of them."""

    def __init__(self) -> None:
        self._blocks: list[Any] = []
        self._addresses: set[int] = set()
        self._block = self._used = 0
        self._on = False

    def reset(self, *, on: bool) -> None:
        """Begin a forward pass: every block is free again. Where not `on`, memory is torch's until the next reset."""
        self._block = self._used = 0
        self._on = on

    def empty(self, *shape: int, like: Any) -> Any:
        """A tensor of that shape with anything in it, of the dtype and on the device of `like`."""
        if not self._on:
            return like.new_empty(shape)
        size = -(-math.prod(shape) * like.element_size() // _ALIGN) * _ALIGN
        while self._block < len(self._blocks) and self._used + size > self._blocks[self._block].nbytes():
            self._block, self._used = self._block + 1, 0
        if self._block == len(self._blocks):
            self._blocks.append(torch.UntypedStorage(max(size, _BLOCK), device=like.device))
            self._addresses.add(self._blocks[-1].data_ptr())
        first = self._used // like.element_size()
        self._used += size
        # No view of one large tensor: autograd would take a write to one part for a write to all.
        return torch.empty(0, dtype=like.dtype).set_(self._blocks[self._block], first, shape)

    def keep(self, tensor: Any) -> Any:
        """The tensor if it lies here, else a copy that does."""
        if not self._on or tensor.untyped_storage().data_ptr() in self._addresses:
            return tensor
        return self.empty(*tensor.shape, like=tensor).copy_(tensor)


# Always off: for results that nothing keeps.
OFF = Arena()
