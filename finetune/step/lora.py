"""A LoRA layer that keeps less and adds within the matmul.

In: a model that PEFT has put LoRA layers into. Out: the same model, the same mathematics, a leaner step.

PEFT's layer keeps the dropped-out input of every layer beside the input, and adds the adapter's output and its
gradient in passes of their own. Here one function does both matmuls: it keeps the input, which the layers that read it
share, and one byte per entry for the dropout; both additions happen inside the large matmul.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn import functional


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """`x @ weight.T + dropout(x) @ lora_a.T @ lora_b.T * scaling` with a weight that takes no gradient.

    x [..., in], weight [out, in], lora_a [r, in], lora_b [out, r]; keep: bool like x, or None where nothing is dropped;
    `scaling` holds the dropout's 1 / (1 - p) too.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, lora_a: Any, lora_b: Any, keep: Any, scaling: float) -> Any:
        rows = x.reshape(-1, x.shape[-1])
        down = functional.linear(rows if keep is None else rows * keep, lora_a.to(x.dtype))
        up = (lora_b * scaling).to(x.dtype)
        out = functional.linear(rows, weight)
        out.addmm_(down, up.t())
        ctx.save_for_backward(rows, weight, lora_a, lora_b, keep, down)
        ctx.scaling = scaling
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows, weight, lora_a, lora_b, keep, down = ctx.saved_tensors
        grad_rows = grad.reshape(-1, grad.shape[-1])
        d_down = grad_rows @ (lora_b * ctx.scaling).to(grad.dtype)
        d_lora_b = (grad_rows.t() @ down).to(lora_b.dtype) * ctx.scaling
        d_lora_a = (d_down.t() @ (rows if keep is None else rows * keep)).to(lora_a.dtype)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_down @ lora_a.to(grad.dtype)
            if keep is not None:
                d_x.mul_(keep)
            d_x = d_x.addmm_(grad_rows, weight).view(*grad.shape[:-1], -1)
        return d_x, None, d_lora_a, d_lora_b, None, None


def lora_linear(x: Any, weight: Any, lora_a: Any, lora_b: Any, *, scaling: float, dropout: float) -> Any:
    """A LoRA layer's output; `dropout` is 0 outside training."""
    if not dropout:
        return LoraLinear.apply(x, weight, lora_a, lora_b, None, scaling)
    keep = keep_mask(x, dropout).view(-1, x.shape[-1])
    return LoraLinear.apply(x, weight, lora_a, lora_b, keep, scaling / (1 - dropout))


def keep_mask(x: Any, dropout: float) -> Any:
    """True where an entry of x is kept. On a CPU from 16 random bits an entry: `dropout` to 1 in 65,536."""
    if x.device.type != "cpu":
        return torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - dropout)
    count = x.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    return (bits >= round(dropout * 2**16) - 2**15).view(x.shape)


def slim_lora(model: Any, dropout: float) -> None:
    """Give every LoRA layer in `model` the lean forward. They must be plain: no variant, no bias of their own."""

    def forward(layer: Any, x: Any) -> Any:
        (adapter,) = layer.active_adapters
        return lora_linear(
            x,
            layer.base_layer.weight,
            layer.lora_A[adapter].weight,
            layer.lora_B[adapter].weight,
            scaling=layer.scaling[adapter],
            dropout=dropout if layer.training else 0.0,
        )

    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.forward = MethodType(forward, layer)
