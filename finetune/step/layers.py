"""Qwen3's RMSNorm and gated activation with what their gradients need and no more.

In: a model whose own weights are frozen. Out: the same model; these layers keep their input in its own dtype.

Left to autograd, a norm keeps an fp32 copy of its input and the gated activation one of each of its three factors:
together half of a layer's memory, and memory traffic is what a step without matmuls is made of.
"""

from functools import partial
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn import functional
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm

from finetune.step.arena import OFF, Arena
from finetune.step.lora import Adapted, back, forth

# What these norms give is kept by the layers that read it.
_KEPT = ("input_layernorm", "post_attention_layernorm")


class FrozenRMSNorm(torch.autograd.Function):  # type: ignore[misc]
    """`x / sqrt(mean(x**2) + eps) * weight`, computed in fp32, for a weight that takes no gradient. x [..., d].

    What is kept lies in `arena`, the result in `into`.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float, arena: Arena, into: Arena) -> Any:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        # [..., 1]; the norm makes no square of the input's size.
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(arena.keep(x), weight, arena.keep(scale))
        return torch.mul(weight, (wide * scale).to(x.dtype), out=into.empty(*x.shape, like=x))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        normed = x.to(scale.dtype) * scale
        d_normed = (grad * weight).to(scale.dtype)
        # d x = scale (d n - n mean(d n * n))
        along = (d_normed * normed).mean(-1, keepdim=True)
        return d_normed.addcmul_(normed, along, value=-1).mul_(scale).to(x.dtype), None, None, None, None


class GatedSilu(torch.autograd.Function):  # type: ignore[misc]
    """`silu(gate) * up`, both of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _gated_back(grad, *ctx.saved_tensors)


class GatedLoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """`LoraLinear` of `silu(gate) * up`, which is made a second time on the way back instead of being kept.

    gate and up [..., in], the rest as in `LoraLinear`. The product is as wide as the two it is made of, and cheap.
    """

    @staticmethod
    def forward(
        ctx: Any, gate: Any, up: Any, weight: Any, lora_a: Any, lora_b: Any, scaling: float, dropout: float, seed: int,
        arena: Arena,
    ) -> Any:  # fmt: skip
        scaling /= 1 - dropout
        rows = _gated(gate, up).reshape(-1, gate.shape[-1])
        out, down = forth(rows, weight, lora_a, lora_b, scaling, dropout, seed, OFF)
        ctx.save_for_backward(arena.keep(gate), arena.keep(up), weight, lora_a, lora_b, arena.keep(down))
        ctx.scaling, ctx.dropout, ctx.seed = scaling, dropout, seed
        return out.view(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        gate, up, weight, lora_a, lora_b, down = ctx.saved_tensors
        rows = _gated(gate, up).reshape(-1, gate.shape[-1])
        d_rows, d_lora_a, d_lora_b = back(
            grad, rows, weight, lora_a, lora_b, down, ctx.scaling, ctx.dropout, ctx.seed, for_rows=True
        )
        return *_gated_back(d_rows.view(gate.shape), gate, up), None, d_lora_a, d_lora_b, None, None, None, None


def _gated(gate: Any, up: Any) -> Any:
    return functional.silu(gate).mul_(up)


def _gated_back(grad: Any, gate: Any, up: Any) -> tuple[Any, Any]:
    return torch.ops.aten.silu_backward(grad * up, gate), functional.silu(gate).mul_(grad)


def slim_layers(model: Any, dropout: float, arena: Arena) -> None:
    """Give every norm and every MLP in `model` the lean forward; `dropout` is the adapter's. What is kept lies in `arena`."""

    def mlp(layer: Any, x: Any) -> Any:
        gate, up = layer.gate_proj(x), layer.up_proj(x)
        if not isinstance(layer.down_proj, Linear):
            return layer.down_proj(GatedSilu.apply(gate, up))
        it = Adapted.of(layer.down_proj, dropout)
        return GatedLoraLinear.apply(gate, up, it.weight, it.lora_a, it.lora_b, it.scaling, it.dropout, it.seed, arena)

    def norm(layer: Any, into: Arena, x: Any) -> Any:
        return FrozenRMSNorm.apply(x, layer.weight, layer.variance_epsilon, arena, into)

    for name, module in model.named_modules():
        if isinstance(module, Qwen3RMSNorm):
            module.forward = partial(norm, module, arena if name.endswith(_KEPT) else OFF)
        elif isinstance(module, Qwen3MLP):
            module.forward = MethodType(mlp, module)
