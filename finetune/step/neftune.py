"""NEFTune's noise for a flattened row: scaled by the length of each conversation, not of the row.

In: embeddings and where the conversations begin. Out: embeddings with noise, https://arxiv.org/abs/2310.05914.

The paper adds uniform noise of +-alpha / sqrt(L d) to a sample of L tokens, and its authors' code takes L without
padding. transformers takes the length of the row. For packed rows (and so in LLaMA-Factory, where L is always 2049) the noise
of a short conversation shrinks with what it happens to be packed with, and with the batch where rows are flattened.
"""

from typing import Any

import torch


def add_noise(embeddings: Any, cu_seq_lens: Any, alpha: float) -> Any:
    """embeddings [1, T, d], cu_seq_lens int32 [n + 1] from 0 to T; out [1, T, d]."""
    tokens, width = embeddings.shape[1:]
    lengths = cu_seq_lens.diff()
    size = (alpha / (lengths * width).sqrt()).repeat_interleave(lengths, output_size=tokens)
    return embeddings + torch.empty_like(embeddings).uniform_(-1, 1) * size[None, :, None].to(embeddings.dtype)
