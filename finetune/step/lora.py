"""A LoRA layer that keeps less and adds within the matmul.

In: a model that PEFT has put LoRA layers into. Out: the same model, the same mathematics, a leaner step.

PEFT's layer keeps the dropped-out input and its mask beside the input, and adds the adapter's output and its gradient in
passes of their own. Here one function does both matmuls: it keeps the input alone, which the layers that read it
share, and draws the mask a second time from its seed on the way back; both additions happen inside a matmul.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import Linear
from torch.nn import functional

from finetune.step.arena import OFF, Arena

# The integers under a floating-point number. A mask of 16 bits is extended by its sign.
_BITS = {
    torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64,
}  # fmt: skip
# What these layers give is kept by what reads it: norms and the gated activation.
_KEPT = ("q_proj", "k_proj", "gate_proj", "up_proj")


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """`x @ weight.T + dropout(x) @ lora_a.T @ lora_b.T * scaling` with a weight that takes no gradient.

    x [..., in], weight [out, in], lora_a [r, in], lora_b [out, r]; `seed` says which entries are dropped. What is kept lies in
    `arena`, the result in `into`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, lora_a: Any, lora_b: Any, scaling: float, dropout: float, seed: int,
        arena: Arena, into: Arena,
    ) -> Any:  # fmt: skip
        rows = x.reshape(-1, x.shape[-1])
        scaling /= 1 - dropout
        out, down = forth(rows, weight, lora_a, lora_b, scaling, dropout, seed, into)
        ctx.save_for_backward(arena.keep(rows), weight, lora_a, lora_b, arena.keep(down))
        ctx.scaling, ctx.dropout, ctx.seed = scaling, dropout, seed
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows, weight, lora_a, lora_b, down = ctx.saved_tensors
        d_rows, d_lora_a, d_lora_b = back(
            grad,
            rows,
            weight,
            lora_a,
            lora_b,
            down,
            ctx.scaling,
            ctx.dropout,
            ctx.seed,
            for_rows=ctx.needs_input_grad[0],
        )
        d_x = None if d_rows is None else d_rows.view(*grad.shape[:-1], -1)
        return d_x, None, d_lora_a, d_lora_b, None, None, None, None, None


def forth(
    rows: Any, weight: Any, lora_a: Any, lora_b: Any, scaling: float, dropout: float, seed: int, into: Arena
) -> tuple[Any, Any]:
    """The layer's output for rows [N, in], in `into`, and the adapter's inner states [N, r], which `back` needs.

    `scaling` is the adapter's divided by the share that is kept.
    """
    down = functional.linear(drop(rows, dropout, seed), lora_a.to(rows.dtype))
    out = torch.mm(rows, weight.t(), out=into.empty(len(rows), len(weight), like=rows))
    out.addmm_(down, (lora_b * scaling).to(rows.dtype).t())
    return out, down


def back(
    grad: Any, rows: Any, weight: Any, lora_a: Any, lora_b: Any, down: Any, scaling: float, dropout: float, seed: int,
    *, for_rows: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of the rows [N, in] (None unless `for_rows`), of lora_a and of lora_b."""
    grad_rows = grad.reshape(-1, grad.shape[-1])
    mask = keep_mask(rows, dropout, seed) if dropout else None
    d_down = grad_rows @ (lora_b * scaling).to(grad.dtype)
    # Transposed twice: the CPU's matmul is faster with few rows than with few columns.
    d_lora_b = (down.t() @ grad_rows).t().to(lora_b.dtype) * scaling
    d_lora_a = (d_down.t() @ _masked(rows, mask)).to(lora_a.dtype)
    d_rows = None
    if for_rows:
        d_rows = _masked(d_down @ lora_a.to(grad.dtype), mask).addmm_(grad_rows, weight)
    return d_rows, d_lora_a, d_lora_b


def drop(x: Any, dropout: float, seed: int) -> Any:
    """x with a share of `dropout` of its entries at zero; not scaled up."""
    return _masked(x, keep_mask(x, dropout, seed)) if dropout else x


def keep_mask(x: Any, dropout: float, seed: int) -> Any:
    """int16 like x: all bits set where an entry is kept, none where it is dropped.

    Drawn from 15 random bits an entry: `dropout` is met to 1 in 32,768.
    """
    count = x.numel()
    # 64 bits at a time: a fourth of the draws.
    size = (count + 3) // 4
    if x.device.type == "cpu":
        # numpy's SFC64 takes less than half as long as torch's generator, which makes them one after the other, too.
        whole = np.random.Generator(np.random.SFC64(seed)).integers(-(2**63), 2**63, size, dtype=np.int64)
        draws = torch.from_numpy(whole)
    else:
        draw = torch.Generator(x.device).manual_seed(seed)
        draws = torch.empty(size, dtype=torch.int64, device=x.device).random_(-(2**63), None, generator=draw)
    bits = draws.view(torch.int16)[:count].bitwise_and_(2**15 - 1)
    # Below the threshold the difference is positive or zero; the shift spreads the sign over all bits.
    return bits.neg_().add_(round(dropout * 2**15) - 1).bitwise_right_shift_(15).view(x.shape)


def _masked(x: Any, mask: Any) -> Any:
    # A multiplication by a bool mask takes a CPU ten times as long.
    return x if mask is None else (x.view(_BITS[x.dtype]) & mask).view(x.dtype)


@dataclass(frozen=True)
class Adapted:
    """What a LoRA layer computes with: the arguments of `LoraLinear` behind x, but for the arenas."""

    weight: Any
    lora_a: Any
    lora_b: Any
    scaling: float
    dropout: float
    seed: int

    @classmethod
    def of(cls, layer: Any, dropout: float) -> "Adapted":
        """The layer's, with a fresh seed while it trains. It must be plain: no variant, no bias of its own."""
        (adapter,) = layer.active_adapters
        share = dropout if layer.training else 0.0
        return cls(
            layer.base_layer.weight,
            layer.lora_A[adapter].weight,
            layer.lora_B[adapter].weight,
            layer.scaling[adapter],
            share,
            # From torch's own generator: a resumed run and a checkpointed layer drop the same entries again.
            int(torch.randint(2**62, ())) if share else 0,
        )


def slim_lora(model: Any, dropout: float, arena: Arena) -> None:
    """Give every LoRA layer in `model` the lean forward; what is kept of it lies in `arena`."""

    def forward(layer: Any, into: Arena, x: Any) -> Any:
        it = Adapted.of(layer, dropout)
        return LoraLinear.apply(x, it.weight, it.lora_a, it.lora_b, it.scaling, it.dropout, it.seed, arena, into)

    for name, layer in model.named_modules():
        if isinstance(layer, Linear):
            layer.forward = partial(forward, layer, arena if name.endswith(_KEPT) else OFF)
