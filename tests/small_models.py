"""Real Qwen3 models so small that a test can make one in a second. Random weights: they speak, but say nothing."""

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from data.contract import Contract, read_contract, seal
from data.template import END
from finetune.tokenizer import train_tokenizer

TEXTS = (
    "你好呀，我是灵伴，一个陪你长大的人工智能伙伴。今天有什么想和我说的吗？",
    "为什么天空是蓝色的？阳光里藏着所有的颜色，空气把蓝色的光撒得到处都是。",
    "Hello, I am an AI companion. Why is the sky blue? Sunlight holds every colour.",
)


def make_base(folder: Path, *, seed: int = 0) -> Path:
    """A base model folder: random bf16 weights of Qwen3's architecture, and a tokenizer with its control tokens."""
    tokenizer = train_tokenizer(TEXTS * 3, vocab_size=600)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_talker(folder: Path, *, ends: bool = False) -> Path:
    """A base that says different things: one whose head is its embedding repeats its prompt's last token for ever.

    `ends`: after a few words, as if it were tuned.
    """
    make_base(folder)
    config = Qwen3Config.from_pretrained(folder)
    config.tie_word_embeddings = False
    torch.manual_seed(5)
    model = Qwen3ForCausalLM(config)
    if ends:
        # Its logit is the largest of all at one token in a few.
        model.lm_head.weight.data[config.eos_token_id] *= 4
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_sealed(folder: Path, contract: Contract | None = None) -> Path:
    """A sealed model folder around `make_base`'s model."""
    make_base(folder)
    tokenizer = train_tokenizer(TEXTS * 3, vocab_size=600)
    stop = [tokenizer.convert_tokens_to_ids(END), tokenizer.pad_token_id]
    seal(folder, contract or read_contract(), {"made by": "tests"}, stop, tokenizer.pad_token_id)
    return folder
