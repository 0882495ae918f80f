"""Causal attention within each conversation of a flattened row, without a mask.

In: queries, keys and values of one row and where its conversations begin. Out: as transformers' attention functions.

A mask over the row makes every token meet every other one and throws most of it away. Conversation by conversation,
and within one block of queries after the other, the work is a fraction. On a GPU that is one call of
`torch.nn.attention.varlen`; elsewhere each block takes two matmuls per key-value head around a softmax.
"""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn import functional

from finetune.step.arena import OFF, Arena

NAME = "mindpal_conversations"

# Queries taken at a time: they meet no key behind their own block. CPU milliseconds forth and back on an EPYC core for
# 16 heads of 128, against torch's tiled attention: 350 tokens 15 and 43, 1024: 96 and 208, 2048: 361 and 681
# (with blocks of 128; 256 is as quick, and in fewer pieces).
_BLOCK = 256
# A matmul of a new shape, or with other strides, is compiled first, for a millisecond and half a megabyte that stays: so few
# shapes, and tokens before heads in memory, so that no stride depends on the row's length.
_ALIGN = 64
# Above this length tiled attention.
_LONG = 2048


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
    arena: Arena,
    **_: Any,
) -> tuple[Any, None]:
    """Attention as transformers calls it, for one flattened row.

    query [1, Hq, T, D], key and value [1, Hk, T, D]; cu_seq_lens_q int32 [n + 1] from 0 to T; max_length_q the longest
    conversation. Out [1, T, Hq, D]. The mask is not looked at: the conversations say it all. What is kept lies in the arena.
    """
    if has_varlen(query):
        from torch.nn.attention.varlen import varlen_attn

        flat = (states[0].transpose(0, 1) for states in (query, key, value))
        out = varlen_attn(
            *flat, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
            scale=scaling, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip
        return out[None], None
    return conversations_attention(query[0], key[0], value[0], cu_seq_lens_q.tolist(), scaling, arena)[None], None


def has_varlen(states: Any) -> bool:
    """Whether the varlen kernel takes these: half precision on an NVIDIA GPU from Ampere on."""
    half = states.dtype in (torch.bfloat16, torch.float16)
    return bool(states.is_cuda and half and torch.cuda.get_device_capability(states.device) >= (8, 0))


def conversations_attention(query: Any, key: Any, value: Any, bounds: list[int], scaling: float, arena: Arena) -> Any:
    """Causal attention in [bounds[i], bounds[i + 1]): query [Hq, T, D], key and value [Hk, T, D] -> [T, Hq, D]."""
    if max(end - start for start, end in pairwise(bounds)) <= _LONG:
        return _Conversations.apply(query, key, value, bounds, scaling, arena)
    parts = []
    for start, end in pairwise(bounds):
        states = (query[:, start:end], key[:, start:end], value[:, start:end])
        if end - start <= _LONG:
            parts.append(_Conversations.apply(*states, [0, end - start], scaling, arena))
        else:
            q, k, v = (part[None] for part in states)
            tiled = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            parts.append(tiled[0].transpose(0, 1))
    return torch.cat(parts)


class _Conversations(torch.autograd.Function):  # type: ignore[misc]
    """Softmax(query key^T) value in blocks of queries, each with the keys of its conversation up to its own end.

    Inside, every conversation is filled up to a multiple of `_ALIGN`. The filling needs no mask: as keys it lies in the
    future of every real query, and as queries it gives rows that are dropped and get no gradient.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bounds: list[int], scaling: float, arena: Arena) -> Any:
        query, key, value = (_filled(states, bounds, arena) for states in (query, key, value))
        heads, _, width = query.shape
        groups = key.shape[0]
        out = torch.empty_like(query)
        query.mul_(scaling)
        # -inf where a key is behind its query.
        future = torch.full((_BLOCK, _BLOCK), float("-inf"), dtype=query.dtype, device=query.device).triu_(1)
        kept = []
        for start, first, end in _blocks(bounds):
            scores = torch.bmm(_grouped(query[:, first:end], groups), key[:, start:end].transpose(1, 2))
            # The last keys are the queries' own.
            rows = end - first
            scores.view(-1, rows, end - start)[..., -rows:].add_(future[:rows, :rows])
            weights = torch.softmax(scores, -1, out=arena.empty(*scores.shape, like=scores))
            kept.append(weights)
            out[:, first:end] = torch.bmm(weights, value[:, start:end]).view(heads, rows, width)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.bounds, ctx.scaling = bounds, scaling
        return _unfilled(out, bounds, arena).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, *kept = ctx.saved_tensors
        heads, groups, width = query.shape[0], key.shape[0], query.shape[2]
        grad = _filled(grad.transpose(0, 1), ctx.bounds, OFF)
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for (start, first, end), weights in zip(_blocks(ctx.bounds), kept, strict=True):
            queries, d_out = (_grouped(states[:, first:end], groups) for states in (query, grad))
            d_value[:, start:end].baddbmm_(weights.transpose(1, 2), d_out)
            d_weights = torch.bmm(d_out, value[:, start:end].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_query[:, first:end] = torch.bmm(d_scores, key[:, start:end]).view(heads, -1, width)
            d_key[:, start:end].baddbmm_(d_scores.transpose(1, 2), queries)
        d_query.mul_(ctx.scaling)
        return *(_unfilled(states, ctx.bounds, OFF) for states in (d_query, d_key, d_value)), None, None, None


def _filled_bounds(bounds: list[int]) -> list[int]:
    lengths = (-(-(end - start) // _ALIGN) * _ALIGN for start, end in pairwise(bounds))
    return list(accumulate(lengths, initial=0))


def _filled(states: Any, bounds: list[int], arena: Arena) -> Any:
    """[H, T, D] -> [H, T', D], token by token in memory, zeros behind every conversation."""
    into = _filled_bounds(bounds)
    out = arena.empty(into[-1], states.shape[0], states.shape[2], like=states).zero_().transpose(0, 1)
    for (start, end), first in zip(pairwise(bounds), into, strict=False):
        out[:, first : first + end - start] = states[:, start:end]
    return out


def _unfilled(states: Any, bounds: list[int], arena: Arena) -> Any:
    """[H, T', D] -> [H, T, D], laid out token by token as its reader, the next linear layer, wants it."""
    into = _filled_bounds(bounds)
    out = arena.empty(bounds[-1], states.shape[0], states.shape[2], like=states).transpose(0, 1)
    for (start, end), first in zip(pairwise(bounds), into, strict=False):
        out[:, start:end] = states[:, first : first + end - start]
    return out


def _blocks(bounds: list[int]) -> Iterator[tuple[int, int, int]]:
    """(where the filled conversation starts, the block's first query, its end), for every block of queries."""
    for start, end in pairwise(_filled_bounds(bounds)):
        for first in range(start, end, _BLOCK):
            yield start, first, min(end, first + _BLOCK)


def _grouped(states: Any, groups: int) -> Any:
    """[Hq, n, D] -> [Hk, Hq/Hk * n, D]: the query heads that share a key-value head, one below the other."""
    return states.reshape(groups, -1, states.shape[-1])
