"""Qwen3's RMSNorm and gated activation with what their gradients need and no more.

In: a model whose own weights are frozen. Out: the same model; these layers keep their input in its own dtype.

Left to autograd, a norm keeps an fp32 copy of its input and the gated activation one of each of its three factors:
together half of a layer's memory, and memory traffic is what a step without matmuls is made of.
"""

from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm


class FrozenRMSNorm(torch.autograd.Function):  # type: ignore[misc]
    """`x / sqrt(mean(x**2) + eps) * weight`, computed in fp32, for a weight that takes no gradient. x [..., d]."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float) -> Any:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        # [..., 1]
        scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        normed = x.to(scale.dtype) * scale
        d_normed = (grad * weight).to(scale.dtype)
        # d x = scale (d n - n mean(d n * n))
        along = (d_normed * normed).mean(-1, keepdim=True)
        return d_normed.addcmul_(normed, along, value=-1).mul_(scale).to(x.dtype), None, None


class GatedSilu(torch.autograd.Function):  # type: ignore[misc]
    """`silu(gate) * up`, both of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), functional.silu(gate).mul_(grad)


def slim_layers(model: Any) -> None:
    """Give every norm and every MLP in `model` the lean forward."""
    for module in model.modules():
        if isinstance(module, Qwen3RMSNorm):
            module.forward = MethodType(_norm, module)
        elif isinstance(module, Qwen3MLP):
            module.forward = MethodType(_mlp, module)


def _norm(layer: Any, x: Any) -> Any:
    return FrozenRMSNorm.apply(x, layer.weight, layer.variance_epsilon)


def _mlp(layer: Any, x: Any) -> Any:
    return layer.down_proj(GatedSilu.apply(layer.gate_proj(x), layer.up_proj(x)))
