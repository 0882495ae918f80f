"""Causal attention within each conversation of a flattened row, without a mask.

In: queries, keys and values of one row and where its conversations begin. Out: as transformers' attention functions.

A mask over the row makes every token meet every other one and throws most of it away. Conversation by conversation
the work is a fraction. On a GPU that is one call of `torch.nn.attention.varlen`; elsewhere short conversations take
two matmuls per key-value head and long ones torch's tiled attention.
"""

from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

NAME = "mindpal_conversations"

# Above this many tokens torch's tiled attention beats the plain product, which fills its upper half for nothing.
# CPU milliseconds forth and back on an EPYC core, 16 heads of 128: 350 tokens 37 and 45, 512: 80 and 83, 1024: 356
# and 218.
_LONG = 512


def attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float,
    cu_seq_lens_q: Any,
    max_length_q: int,
    **_: Any,
) -> tuple[Any, None]:
    """Attention as transformers calls it, for one flattened row.

    query [1, Hq, T, D], key and value [1, Hk, T, D]; cu_seq_lens_q int32 [n + 1] from 0 to T; max_length_q the longest
    conversation. Out [1, T, Hq, D]. The mask is not looked at: the conversations say it all.
    """
    if has_varlen(query):
        from torch.nn.attention.varlen import varlen_attn

        flat = (states[0].transpose(0, 1) for states in (query, key, value))
        out = varlen_attn(
            *flat, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
            scale=scaling, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip
        return out[None], None
    return conversations_attention(query[0], key[0], value[0], cu_seq_lens_q.tolist(), scaling)[None], None


def has_varlen(states: Any) -> bool:
    """Whether the varlen kernel takes these: half precision on an NVIDIA GPU from Ampere on."""
    half = states.dtype in (torch.bfloat16, torch.float16)
    return bool(states.is_cuda and half and torch.cuda.get_device_capability(states.device) >= (8, 0))


def conversations_attention(query: Any, key: Any, value: Any, bounds: list[int], scaling: float) -> Any:
    """Causal attention in [bounds[i], bounds[i + 1]): query [Hq, T, D], key and value [Hk, T, D] -> [T, Hq, D]."""
    if max(end - start for start, end in pairwise(bounds)) <= _LONG:
        return _Conversations.apply(query, key, value, bounds, scaling)
    parts = []
    for start, end in pairwise(bounds):
        states = (query[:, start:end], key[:, start:end], value[:, start:end])
        if end - start <= _LONG:
            parts.append(_Conversations.apply(*states, [0, end - start], scaling))
        else:
            q, k, v = (part[None] for part in states)
            tiled = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            parts.append(tiled[0].transpose(0, 1))
    return torch.cat(parts)


class _Conversations(torch.autograd.Function):  # type: ignore[misc]
    """The plain product for short conversations: two matmuls a key-value head, probabilities kept for the way back."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bounds: list[int], scaling: float) -> Any:
        heads, tokens, width = query.shape
        groups = key.shape[0]
        out = query.new_empty(tokens, heads, width)
        wide = torch.promote_types(query.dtype, torch.float32)
        longest = max(end - start for start, end in pairwise(bounds))
        future = torch.full((longest, longest), float("-inf"), dtype=wide, device=query.device).triu_(1)
        kept = []
        for start, end in pairwise(bounds):
            length = end - start
            scores = torch.bmm(_grouped(query[:, start:end], groups), key[:, start:end].transpose(1, 2))
            scores = scores.to(wide).view(groups, -1, length, length).mul_(scaling).add_(future[:length, :length])
            weights = scores.softmax(-1).to(query.dtype).view(groups, -1, length)
            kept.append(weights)
            out[start:end] = _by_token(torch.bmm(weights, value[:, start:end]), length)
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.bounds, ctx.scaling = bounds, scaling
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, out, *kept = ctx.saved_tensors
        groups = key.shape[0]
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        wide = torch.promote_types(query.dtype, torch.float32)
        # The row sums of (d weights * weights), as FlashAttention gets them: from the output, not from the weights.
        delta = (grad.to(wide) * out).sum(-1)
        for (start, end), weights in zip(pairwise(ctx.bounds), kept, strict=True):
            length = end - start
            d_out = _grouped(grad[start:end].transpose(0, 1), groups)
            d_value[:, start:end] = torch.bmm(weights.transpose(1, 2), d_out)
            d_weights = torch.bmm(d_out, value[:, start:end].transpose(1, 2)).to(wide)
            d_weights.sub_(_grouped(delta[start:end].t()[..., None], groups))
            d_scores = d_weights.mul_(weights).mul_(ctx.scaling).to(query.dtype)
            d_query[:, start:end] = torch.bmm(d_scores, key[:, start:end]).view(-1, length, query.shape[-1])
            d_key[:, start:end] = torch.bmm(d_scores.transpose(1, 2), _grouped(query[:, start:end], groups))
        return d_query, d_key, d_value, None, None


def _grouped(states: Any, groups: int) -> Any:
    """[Hq, n, D] -> [Hk, Hq/Hk * n, D]: the query heads that share a key-value head, one below the other."""
    return states.reshape(groups, -1, states.shape[-1])


def _by_token(states: Any, length: int) -> Any:
    """[Hk, Hq/Hk * n, D] -> [n, Hq, D]."""
    return states.view(-1, length, states.shape[-1]).transpose(0, 1)
