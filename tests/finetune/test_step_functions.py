"""Each autograd function of the fast step against plain torch, and its gradient against finite differences."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from finetune.step import attention as attention_module
from finetune.step import head as head_module
from finetune.step.arena import OFF, Arena
from finetune.step.attention import conversations_attention, has_varlen
from finetune.step.head import FrozenHeadLoss, sparse_loss
from finetune.step.layers import FrozenRMSNorm, GatedLoraLinear, GatedSilu
from finetune.step.lora import LoraLinear, drop, keep_mask
from finetune.step.neftune import add_noise

# Gradients are tested with what is kept where it is kept in a run.
ARENA = Arena()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    ARENA.reset(on=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_an_arena_lays_tensors_side_by_side_and_gives_the_same_memory_again(dtype: torch.dtype) -> None:
    like = torch.empty(0, dtype=dtype)
    arena = Arena()
    arena.reset(on=True)
    # The third does not fit into the first block any more, and the fourth into none.
    shapes = [(3, 5, 7), (2**25 // dtype.itemsize,), (2**25 // dtype.itemsize, 1), (2**27 // dtype.itemsize,)]
    made = [arena.empty(*shape, like=like).fill_(number) for number, shape in enumerate(shapes)]
    for number, (tensor, shape) in enumerate(zip(made, shapes, strict=True)):
        assert tensor.shape == shape
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
        assert torch.all(tensor == number)
    blocks = {tensor.untyped_storage().data_ptr() for tensor in made}
    assert len(blocks) == 3
    view = made[0].view(15, 7)
    assert arena.keep(view) is view
    elsewhere = torch.arange(6, dtype=dtype).view(2, 3).t()
    kept = arena.keep(elsewhere)
    assert kept is not elsewhere
    assert torch.equal(kept, elsewhere)
    assert arena.keep(kept) is kept
    arena.reset(on=True)
    addresses = [tensor.data_ptr() for tensor in made]
    assert [arena.empty(*shape, like=like).data_ptr() for shape in shapes] == addresses


def test_an_arena_that_is_off_leaves_memory_to_torch() -> None:
    tensor = draw(2, 3)
    assert OFF.keep(tensor) is tensor
    size = OFF.empty(2, 3, like=tensor).untyped_storage().nbytes()
    assert size == tensor.nbytes


def test_the_head_gives_the_summed_cross_entropy_and_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three rounds of two rows, the last one short.
    monkeypatch.setattr(head_module, "LOGITS", 2 * 11)
    hidden, weight, labels = draw(5, 4).requires_grad_(), draw(11, 4), torch.randint(0, 11, (5,))
    expected = functional.cross_entropy(hidden @ weight.t(), labels, reduction="sum")
    assert torch.allclose(FrozenHeadLoss.apply(hidden, weight, labels), expected)
    assert torch.autograd.gradcheck(lambda h: FrozenHeadLoss.apply(h, weight, labels), hidden)


def test_the_head_keeps_its_gradient_small_where_the_model_is_sure() -> None:
    """In bf16 a probability near 1 minus 1 would be a rounding error; it is taken in fp32."""
    weight = torch.eye(64, dtype=torch.bfloat16)
    hidden = (torch.eye(64, dtype=torch.bfloat16)[:1] * 16).requires_grad_()
    FrozenHeadLoss.apply(hidden, weight, torch.tensor([0])).backward()
    expected = math.exp(-16) * 63 / (1 + 63 * math.exp(-16))
    assert hidden.grad is not None
    assert hidden.grad[0, 0].item() == pytest.approx(-expected, rel=0.1)


def test_a_row_without_labels_has_loss_zero_and_gradient_zero() -> None:
    hidden = draw(1, 6, 4).requires_grad_()
    loss = sparse_loss(hidden, draw(11, 4), torch.full((1, 6), -100))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert hidden.grad.count_nonzero() == 0


def plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: list[int]) -> torch.Tensor:
    parts = []
    for start, end in pairwise(bounds):
        q, k, v = (states[None, :, start:end] for states in (query, key, value))
        parts.append(functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True))
    return torch.cat(parts, 2)[0].transpose(0, 1)


@pytest.mark.parametrize("longest", [100, 6], ids=["in blocks", "long ones tiled"])
def test_attention_stays_within_a_conversation(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    monkeypatch.setattr(attention_module, "_BLOCK", 4)
    monkeypatch.setattr(attention_module, "_ALIGN", 2)
    monkeypatch.setattr(attention_module, "_LONG", longest)
    bounds = [0, 1, 4, 12, 17]
    query, key, value = (draw(heads, 17, 5).requires_grad_() for heads in (4, 2, 2))
    ours = conversations_attention(query, key, value, bounds, 0.3, ARENA)
    assert torch.allclose(ours, plain_attention(query, key, value, bounds))
    assert torch.autograd.gradcheck(
        lambda q, k, v: conversations_attention(q, k, v, bounds, 0.3, ARENA), (query, key, value)
    )


def test_a_conversation_does_not_feel_its_neighbours() -> None:
    query, key, value = (draw(heads, 20, 5) for heads in (4, 2, 2))
    before = conversations_attention(query, key, value, [0, 8, 20], 0.3, ARENA)
    for states in (query, key, value):
        states[:, :8] += 1
    after = conversations_attention(query, key, value, [0, 8, 20], 0.3, ARENA)
    assert torch.equal(before[8:], after[8:])
    assert not torch.allclose(before[:8], after[:8])


def test_the_varlen_kernel_is_for_gpus() -> None:
    assert not has_varlen(torch.zeros(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_lora_is_the_layer_plus_the_adapter(dropout: float) -> None:
    x, weight, lora_a, lora_b = draw(2, 3, 6), draw(5, 6), draw(2, 6), draw(5, 2)
    dropped = drop(x.view(6, 6), dropout, 7).view(x.shape) / (1 - dropout)
    expected = x @ weight.t() + dropped @ lora_a.t() @ lora_b.t() * 2.0
    assert torch.allclose(LoraLinear.apply(x, weight, lora_a, lora_b, 2.0, dropout, 7, ARENA, ARENA), expected)
    inputs = [states.requires_grad_() for states in (x, lora_a, lora_b)]
    assert torch.autograd.gradcheck(
        lambda x, a, b: LoraLinear.apply(x, weight, a, b, 2.0, dropout, 7, ARENA, ARENA), inputs
    )


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_the_gated_product_need_not_be_kept(dropout: float) -> None:
    gate, up, weight, lora_a, lora_b = draw(2, 3, 6), draw(2, 3, 6), draw(5, 6), draw(2, 6), draw(5, 2)
    expected = LoraLinear.apply(GatedSilu.apply(gate, up), weight, lora_a, lora_b, 2.0, dropout, 7, ARENA, ARENA)
    assert torch.equal(GatedLoraLinear.apply(gate, up, weight, lora_a, lora_b, 2.0, dropout, 7, ARENA), expected)
    inputs = [states.requires_grad_() for states in (gate, up, lora_a, lora_b)]
    assert torch.autograd.gradcheck(
        lambda g, u, a, b: GatedLoraLinear.apply(g, u, weight, a, b, 2.0, dropout, 7, ARENA), inputs
    )


@pytest.mark.parametrize("dropout", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_rest_as_it_is(dropout: float, dtype: torch.dtype) -> None:
    x = torch.full((301, 333), -1.5, dtype=dtype)
    dropped = drop(x, dropout, 3)
    assert set(dropped.unique().tolist()) == {0.0, -1.5}
    # Five standard deviations of a share of 100,233 draws.
    assert (dropped == 0).double().mean().item() == pytest.approx(dropout, abs=5 * (dropout / 1e5) ** 0.5)
    assert torch.equal(keep_mask(x, dropout, 3), keep_mask(x, dropout, 3))
    assert not torch.equal(keep_mask(x, dropout, 3), keep_mask(x, dropout, 4))


def test_the_norm_is_rms_norm() -> None:
    x, weight = draw(3, 4, 8).requires_grad_(), draw(8)
    assert torch.allclose(
        FrozenRMSNorm.apply(x, weight, 1e-6, ARENA, ARENA), functional.rms_norm(x, (8,), weight, 1e-6)
    )
    assert torch.autograd.gradcheck(lambda x: FrozenRMSNorm.apply(x, weight, 1e-6, ARENA, ARENA), x)


def test_the_gated_activation_is_silu_times_up() -> None:
    gate, up = draw(3, 8).requires_grad_(), draw(3, 8).requires_grad_()
    assert torch.allclose(GatedSilu.apply(gate, up), functional.silu(gate) * up)
    assert torch.autograd.gradcheck(GatedSilu.apply, (gate, up))


def test_noise_has_the_size_that_the_length_of_each_conversation_gives() -> None:
    lengths = [4, 100, 900]
    bounds = torch.tensor([0, 4, 104, 1004], dtype=torch.int32)
    noise = add_noise(torch.zeros(1, 1004, 64), bounds, alpha=5.0)[0]
    for length, part in zip(lengths, noise.split(lengths), strict=True):
        most = 5.0 / math.sqrt(length * 64)
        assert 0.95 * most < part.abs().max() <= most
        # Uniform: the standard deviation is the bound over the root of three; 256 entries give it to one part in ten.
        assert part.std().item() == pytest.approx(most / math.sqrt(3), rel=0.1)


def test_noise_of_a_row_with_one_conversation_is_that_of_transformers() -> None:
    from transformers.integrations.neftune import neftune_post_forward_hook

    embedding = torch.nn.Embedding(10, 16)
    embedding.neftune_noise_alpha = 5.0
    row = torch.zeros(1, 30, 16)
    torch.manual_seed(1)
    ours = add_noise(row, torch.tensor([0, 30], dtype=torch.int32), 5.0)
    torch.manual_seed(1)
    assert torch.allclose(ours, neftune_post_forward_hook(embedding, None, row), atol=1e-6)
