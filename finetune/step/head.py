"""The frozen head with its loss: logits only where there is a label, and the gradient made along with the loss.

In: hidden states of the positions with a label. Out: the sum of their cross entropies.

A stock step keeps the logits of every position, or projects a second time in the backward pass. A head that is not
trained needs neither: its only gradient is that of the hidden states, and it is known as soon as the logits are.
"""

from typing import Any

import torch
from torch.nn import functional

# The buffers of one round of rows hold 20 million logits at most: 0.12 GB in bf16 and fp32 together, at the moment when
# all else that a step keeps is there. 128 rows of Qwen3's vocabulary.
LOGITS = 20 * 2**20
# Nor more rows than this: a small vocabulary would fill the same buffers for nothing.
_ROWS = 128
# A CPU compiles a matmul for its shape, so rounds are filled up to a multiple of this.
_ALIGN = 64


class FrozenHeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """`cross_entropy(hidden @ weight.T, labels, reduction="sum")` for a head without bias that takes no gradient.

    hidden [N, d], weight [V, d], labels [N] in 0..V-1; out: a scalar in fp32 (fp64 for fp64 hidden states).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, labels: Any) -> Any:
        count, vocabulary = hidden.shape[0], weight.shape[0]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Rows of zeros behind the last one.
        hidden = functional.pad(hidden, (0, 0, 0, -count % _ALIGN))
        rows = min(max(len(hidden), 1), _ROWS, max(_ALIGN, LOGITS // vocabulary // _ALIGN * _ALIGN))
        # One pair of buffers for all rounds: to touch fresh pages of this size costs as much as the matmul.
        narrow = torch.empty(rows, vocabulary, dtype=hidden.dtype, device=hidden.device)
        logits = narrow if wide == hidden.dtype else torch.empty_like(narrow, dtype=wide)
        for start in range(0, count, rows):
            part, target = hidden[start : start + rows], labels[start : start + rows, None]
            filled = narrow[: len(part)]
            torch.mm(part, weight.t(), out=filled)
            z_narrow = filled[: len(target)]
            z = z_narrow if logits is narrow else logits[: len(target)]
            if z is not z_narrow:
                z.copy_(z_narrow)
            top = z.amax(-1, keepdim=True)
            at_target = z.gather(1, target)
            z.sub_(top).exp_()
            norm = z.sum(-1, keepdim=True)
            total += (top + norm.log() - at_target).sum()
            if gradient is not None:
                # d loss / d z is softmax(z) - onehot; the division by the norm is left for the narrow result.
                z.scatter_add_(1, target, -norm)
                if z is not z_narrow:
                    z_narrow.copy_(z)
                gradient[start : start + rows] = torch.mm(filled, weight)[: len(target)] / norm
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype), None, None


def sparse_loss(hidden: Any, weight: Any, labels: Any) -> Any:
    """The summed next-token loss of a flattened row: hidden [1, T, d], labels [1, T] unshifted, -100 without loss."""
    targets = labels[0, 1:]
    with_loss = (targets != -100).nonzero()[:, 0]
    return FrozenHeadLoss.apply(hidden[0, with_loss], weight, targets[with_loss])
