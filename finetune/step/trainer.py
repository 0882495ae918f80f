"""The fast training step, behind TRL's trainer: same tokens, same loss, same gradients.

In: a model, a LoRA configuration, TRL's arguments and encoded data. Out: a trainer to call `train()` on.

A row that reaches the model is flat: its conversations stand one behind the other, and the collator says where each
begins. Entropy and token accuracy, which TRL logs, need every logit and are left out.
"""

import logging
import os
import shutil
import subprocess
import sysconfig
from types import MethodType
from typing import Any, Literal

import torch
from accelerate.utils import DistributedType, parse_flag_from_env
from torch.nn import functional
from transformers import AttentionInterface
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTTrainer
from trl.kernels import chunked_logprob

from finetune.step.arena import Arena
from finetune.step.attention import NAME, attention
from finetune.step.head import sparse_loss
from finetune.step.layers import slim_layers
from finetune.step.lora import slim_lora
from finetune.step.neftune import add_noise

log = logging.getLogger(__name__)

# What the collator gives and the model takes.
_INPUTS = ("input_ids", "position_ids", "labels", "cu_seq_lens_q", "max_length_q")

# A row is filled up to a multiple of this: packed rows are then nearly always of one length, and so are all matmuls,
# each of which a CPU compiles for its shape.
_ALIGN = 64


def make_trainer(
    step: Literal["fast", "trl"], model: Any, lora: Any, args: Any, train: Any, validation: Any, tokenizer: Any
) -> Any:
    """The trainer of a recipe's `training_step`. Where the fast one cannot work it is TRL's, with one line in the log.

    `lora` is a `peft.LoraConfig`, or None where all parameters are trained; `args` a `trl.SFTConfig`.
    """
    reason = obstacle(model, lora, args) if step == "fast" else None
    if reason and args.process_index == 0:
        noise = "; its NEFTune goes by a whole row's length, not a conversation's" if args.neftune_noise_alpha else ""
        log.warning("training_step: TRL's own step, because %s%s", reason, noise)
    kind = SFTTrainer if reason or step == "trl" else FastTrainer
    if kind is SFTTrainer:
        without_triton_where_it_cannot_compile(args)
    trainer = kind(
        model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=lora,
    )
    trained_in_fp32(trainer.model)
    return trainer


def without_triton_where_it_cannot_compile(args: Any) -> None:
    """Let TRL's step on a GPU take torch's operations, as on a CPU, where nothing could build its Triton kernels."""
    if args.device.type != "cuda" or _can_compile():
        return
    chunked_logprob._TRITON_AVAILABLE = False
    if args.process_index == 0:
        log.warning("training_step: TRL's loss by torch; its faster kernels need a C compiler and Python's headers")


def trained_in_fp32(model: Any) -> None:
    """Set every trained weight to fp32, in place; most have been in it from the beginning.

    TRL turns an adapter beside a quantised base to bf16, where most updates are smaller than a weight's last bit.
    """
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def obstacle(model: Any, lora: Any, args: Any) -> str | None:
    """Why the fast step cannot train this, as the end of a sentence; None where it can."""
    config = model.config
    if lora is None:
        return "all parameters are trained, and its head has to be frozen"
    if config.model_type != "qwen3":
        return f"it knows qwen3 models, and this one is {config.model_type}"
    if "quantization_config" in config.to_dict():
        return "the base is quantised"
    if any(kind != "full_attention" for kind in config.layer_types):
        return "the base has sliding windows"
    if config.attention_bias or config.attention_dropout or config.hidden_act != "silu":
        return "the base is no plain qwen3 (a bias or dropout in its attention, or another activation)"
    touched = {*lora.target_modules, *(lora.modules_to_save or ())}
    if {"lm_head", "embed_tokens"} & touched:
        return "the head or the embeddings are trained"
    if lora.modules_to_save or lora.use_dora or lora.lora_bias or lora.bias != "none":
        return "the adapter is more than plain LoRA"
    if not args.prediction_loss_only or args.label_smoothing_factor or args.loss_type != "nll":
        return "more than the plain loss is asked for"
    # accelerate calls the processes MULTI_GPU until the trainer makes its Accelerator; by then the choice is made.
    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return f"the model is spread over processes ({DistributedType.FSDP.value})"
    if args.distributed_state.distributed_type not in (
        DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU,
    ):  # fmt: skip
        return f"the model is spread over processes ({args.distributed_state.distributed_type.value})"
    return None


def _can_compile() -> bool:
    """Whether there is what Triton builds with: a compiler, looked for where Triton does, that finds Python's headers."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        return False
    command = [compiler, "-E", "-x", "c", f"-I{sysconfig.get_path('include')}", "-"]
    return not subprocess.run(command, input=b"#include <Python.h>", capture_output=True, check=False).returncode


class FastTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the sparse head, attention by conversation, lean layers and NEFTune by conversation."""

    def __init__(self, model: Any, **given: Any) -> None:
        super().__init__(model, **given)
        # Ours comes with the step; transformers' hook stays off.
        self.neftune_noise_alpha: float | None = None
        # Without packing too: the rows of a batch one behind the other instead of padded.
        self.data_collator.padding_free = True
        dropout = self.model.active_peft_config.lora_dropout
        arena = Arena()
        slim_lora(self.model, dropout, arena)
        slim_layers(self.model, dropout, arena)
        _flatten(self.model.get_base_model(), self.args.neftune_noise_alpha, arena)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss over the labels of all rows of the step, as TRL's."""
        if return_outputs:
            raise ValueError("the fast step makes no logits; set prediction_loss_only, or training_step: trl.")
        total = model(**{name: inputs[name] for name in _INPUTS}).loss
        labels = inputs["labels"][:, 1:]
        count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count).clamp(min=1)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The count is that of all processes, and their gradients are averaged.
            loss = loss * self.accelerator.num_processes
        if self.model.training:
            tokens = torch.tensor(inputs["input_ids"].numel(), device=labels.device)
            self._total_train_tokens += int(self.accelerator.gather(tokens).sum())
        self._metrics["train" if self.model.training else "eval"]["num_tokens"] = [self._total_train_tokens]
        return loss


def _flatten(model: Any, noise_alpha: float | None, arena: Arena) -> None:
    """Make `model(...)` of a causal LM take flat rows and give the summed loss."""
    AttentionInterface.register(NAME, attention)
    model.set_attn_implementation(NAME)

    def forward(
        self: Any, input_ids: Any, position_ids: Any, labels: Any, cu_seq_lens_q: Any, max_length_q: int, **_: Any
    ) -> CausalLMOutput:
        rest = -input_ids.shape[1] % _ALIGN
        if rest:
            # One more conversation, without labels.
            input_ids, position_ids = (functional.pad(ids, (0, rest)) for ids in (input_ids, position_ids))
            labels = functional.pad(labels, (0, rest), value=-100)
            cu_seq_lens_q = torch.cat([cu_seq_lens_q, cu_seq_lens_q[-1:] + rest])
            max_length_q = max(max_length_q, rest)
        # A GPU has an allocator that keeps blocks by size; checkpointing keeps little, and runs the layers a second time.
        kept = self.training and torch.is_grad_enabled() and not self.is_gradient_checkpointing
        arena.reset(on=kept and input_ids.device.type == "cpu")
        # The weights are in the dtype to compute in; autocast would only look at every operation.
        with torch.autocast(input_ids.device.type, enabled=False):
            embeddings = self.get_input_embeddings()(input_ids)
            if self.training and noise_alpha:
                embeddings = add_noise(embeddings, cu_seq_lens_q, noise_alpha)
            hidden = self.model(
                inputs_embeds=embeddings,
                position_ids=position_ids,
                # A mapping is taken as it is: no mask is built.
                attention_mask={"full_attention": None},
                cu_seq_lens_q=cu_seq_lens_q,
                max_length_q=max_length_q,
                arena=arena,
                use_cache=False,
            ).last_hidden_state
            return CausalLMOutput(loss=sparse_loss(hidden, self.lm_head.weight, labels))

    model.forward = MethodType(forward, model)
