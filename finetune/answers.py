"""Answers of a model to many conversations at once, built as the server builds them.

In: a `Subject`, conversations that end with a question, a contract, a seed. Out: one `Answer` for each.

    with respondent(find_subject("runs/try")) as model:
        tuned = model.answers(conversations, contract, seed=42)
        before = model.answers(conversations, contract, seed=42, adapted=False)

Prompts come from the sealed template alone, so an answer here is one that a child could get. Thinking and sampling
are the contract's; `under` gives a contract with others.

Two engines do the same work. vLLM is the default where there is a GPU: it is what serves, and many times faster. On a
CPU it takes half a minute to start, in which transformers has answered dozens of questions of the demo's model, so
there it is used only where it is asked for.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from data.contract import Contract, Sampling
from data.strict import BadInput, read_json
from data.template import END, THOUGHT_END, as_text, chat_template, split_thought, without_leading_blank_lines
from finetune.base import PAD, load_tokenizer
from finetune.progress import Advance
from finetune.subject import Subject

EngineName = Literal["vllm", "transformers"]
ENGINES: tuple[EngineName, ...] = ("vllm", "transformers")
# A message of a conversation: {"role": "user", "content": "你好"}.
Message = Mapping[str, str]
# 16 windows of 2048 tokens of Qwen3-0.6B keep 3.7 GB of keys and values.
_ROWS_AT_ONCE = 16
# How many vLLM answers at once by default; more would only wait inside it, and no progress be told.
_REQUESTS_AT_ONCE = 256
# vLLM's own default on a CPU.
_TOKENS_A_STEP = 4096
# The ranks that vLLM has kernels for.
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Answer:
    """What a model said. `finished`: it ended by itself, and was not cut off at the longest answer allowed.

    `text` is what would be shown, `thought` what came before it where thinking was on; with thinking off a stray
    think tag stays in `text`. `tokens` counts both, without the one that ends an answer.
    """

    text: str
    thought: str
    finished: bool
    tokens: int


@dataclass(frozen=True)
class Prompt:
    """The ids before an answer, and how many the answer may have."""

    ids: list[int]
    room: int


class Engine(Protocol):
    """What computes: the ids of each answer, with the one that ends it where it ended by itself."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        stop: list[int],
        *,
        seed: int,
        adapted: bool,
        advance: Advance,
    ) -> list[list[int]]: ...


@dataclass(frozen=True)
class Respondent:
    """A loaded model that can be asked as often as one likes."""

    tokenizer: Any
    engine: Engine

    @property
    def stop(self) -> list[int]:
        """The ids that end an answer."""
        return [self.tokenizer.convert_tokens_to_ids(token) for token in (END, PAD)]

    def answers(
        self,
        conversations: Sequence[Sequence[Message]],
        contract: Contract,
        *,
        seed: int,
        adapted: bool = True,
        advance: Advance | None = None,
    ) -> list[Answer]:
        """An answer to each conversation; the same ones again for the same conversations, contract and seed.

        `adapted=False` leaves the adapter out: the model before it was tuned. `advance` is told how many are done.
        Raises `BadInput` where a conversation leaves no room for an answer in the window.
        """
        template = chat_template(contract.persona, thinking=contract.thinking)
        prompts = [
            self.prompt(said, contract, template, f"conversation {number}") for number, said in enumerate(conversations)
        ]
        stop = self.stop
        written = self.engine.generate(
            prompts, contract.sampling, stop, seed=seed, adapted=adapted, advance=advance or _silent
        )
        return [self._answer(ids, stop, thinking=contract.thinking) for ids in written]

    def prompt(self, said: Sequence[Message], contract: Contract, template: str, where: str) -> Prompt:
        """The prompt that the server would build."""
        # The longest first, as in training: text stays text.
        control = sorted(
            (token.content for token in self.tokenizer.added_tokens_decoder.values()), key=len, reverse=True
        )
        messages = [{**message, "content": as_text(message["content"], control)} for message in said]
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, return_dict=False
        )
        room = min(contract.sampling.max_tokens, contract.window - len(ids))
        if room < 1:
            raise BadInput(
                f"{where}: takes {len(ids)} tokens, and the window has {contract.window}; shorten it or leave it out."
            )
        return Prompt(ids, room)

    def _answer(self, ids: list[int], stop: list[int], *, thinking: bool) -> Answer:
        finished = bool(ids) and ids[-1] in stop
        spoken = ids[:-1] if finished else ids
        text = str(self.tokenizer.decode(spoken, skip_special_tokens=True))
        if not thinking:
            return Answer(without_leading_blank_lines(text), "", finished, len(spoken))
        if "<think>" in text and THOUGHT_END.strip() not in text:
            # Cut off while it thought: nothing would be shown.
            return Answer("", text.partition("<think>")[2].strip("\n"), finished, len(spoken))
        thought, words = split_thought(text)
        return Answer(words, thought, finished, len(spoken))


@contextmanager
def respondent(subject: Subject, engine: EngineName | None = None) -> Iterator[Respondent]:
    """The subject loaded, until the block ends. Raises `BadInput` where vLLM was asked for and is not there."""
    import torch

    if engine == "vllm" and not _has_vllm():
        raise BadInput("vLLM is not installed: `pip install -e .[serve-cpu]`, or leave --engine out.")
    tokenizer = load_tokenizer(subject.base)
    if engine == "vllm" or (engine is None and torch.cuda.is_available() and _has_vllm()):
        vllm = _Vllm(subject)
        try:
            yield Respondent(tokenizer, vllm)
        finally:
            vllm.close()
    else:
        yield Respondent(tokenizer, TransformersEngine(load_model(subject)))


def under(contract: Contract, *, thinking: bool, greedy: bool = False) -> Contract:
    """The contract with thinking on or off, and with the likeliest token always taken where `greedy`."""
    sampling = contract.sampling.model_copy(update={"temperature": 0.0}) if greedy else contract.sampling
    return contract.model_copy(update={"thinking": thinking, "sampling": sampling})


def load_model(subject: Subject) -> Any:
    """The subject's model in the dtype it is saved in, in transformers, on the GPU where there is one."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_log

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(subject.weights, dtype="auto", local_files_only=True)
    if subject.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, subject.adapter)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


class TransformersEngine:
    """transformers' generate, in batches padded on the left."""

    def __init__(self, model: Any):
        self._model = model

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        stop: list[int],
        *,
        seed: int,
        adapted: bool,
        advance: Advance,
    ) -> list[list[int]]:
        import torch

        written: list[list[int]] = [[] for _ in prompts]
        # Prompts of like length together: little padding.
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place].ids))
        for first in range(0, len(order), _ROWS_AT_ONCE):
            places = order[first : first + _ROWS_AT_ONCE]
            # A batch's draws do not depend on how many came before.
            torch.manual_seed(seed + first)
            with _adapter(self._model, on=adapted):
                rows = generate(self._model, [prompts[place] for place in places], sampling, stop)
            for place, row in zip(places, rows, strict=True):
                written[place] = row
            advance(first + len(places))
        return written


def generate(
    model: Any, batch: Sequence[Prompt], sampling: Sampling, stop: list[int], streamer: Any = None
) -> list[list[int]]:
    """The ids of each answer by transformers' generate; `streamer` gets those of a single one as they come."""
    import torch
    from transformers import LogitsProcessorList

    width = max(len(prompt.ids) for prompt in batch)
    ids = [[stop[-1]] * (width - len(prompt.ids)) + prompt.ids for prompt in batch]
    mask = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in batch]
    drawn = {
        "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k, "min_p": sampling.min_p,
    } if sampling.temperature else {"temperature": None, "top_p": None, "top_k": None, "min_p": None}  # fmt: skip
    with torch.inference_mode():
        rows = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            streamer=streamer,
            max_new_tokens=max(prompt.room for prompt in batch),
            do_sample=sampling.temperature > 0,
            repetition_penalty=sampling.repetition_penalty,
            logits_processor=LogitsProcessorList([penalties(sampling, width)]),
            eos_token_id=stop,
            pad_token_id=stop[-1],
            **drawn,
        )
    answers = []
    for prompt, row in zip(batch, rows[:, width:].tolist(), strict=True):
        end = next((number + 1 for number, token in enumerate(row) if token in stop), len(row))
        answers.append(row[: min(end, prompt.room)])
    return answers


class _Vllm:
    """vLLM's offline engine, in a process of its own that ends with `close`."""

    def __init__(self, subject: Subject):
        # vLLM reads its environment where it is imported, and nothing else tells it these. What a person set stays.
        for name, value in {
            "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            # torch has looked for a GPU here, after which a forked process cannot use CUDA.
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        }.items():  # fmt: skip
            os.environ.setdefault(name, value)
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self._lora = LoRARequest("adapter", 1, str(subject.adapter.resolve())) if subject.adapter else None
        self._llm = LLM(
            model=str(subject.weights),
            tokenizer=str(subject.base.folder),
            max_model_len=subject.contract.window,
            max_num_seqs=_REQUESTS_AT_ONCE,
            generation_config="vllm",
            # Compiling takes a minute, more than most of these questions.
            enforce_eager=True,
            # A prompt read in two halves ends vLLM 0.32's CPU engine where it has a seed; whole ones never do.
            enable_chunked_prefill=False,
            max_num_batched_tokens=max(subject.contract.window, _TOKENS_A_STEP),
            enable_lora=self._lora is not None,
            max_lora_rank=_kernel_rank(subject),
            **_share_of_gpu(),
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        stop: list[int],
        *,
        seed: int,
        adapted: bool,
        advance: Advance,
    ) -> list[list[int]]:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        written: list[list[int]] = []
        for first in range(0, len(prompts), _REQUESTS_AT_ONCE):
            batch = prompts[first : first + _REQUESTS_AT_ONCE]
            done = self._llm.generate(
                [TokensPrompt(prompt_token_ids=prompt.ids) for prompt in batch],
                [
                    SamplingParams(
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        top_k=sampling.top_k,
                        min_p=sampling.min_p,
                        repetition_penalty=sampling.repetition_penalty,
                        presence_penalty=sampling.presence_penalty,
                        frequency_penalty=sampling.frequency_penalty,
                        max_tokens=prompt.room,
                        stop_token_ids=stop,
                        seed=seed + first + number,
                        detokenize=False,
                    )
                    for number, prompt in enumerate(batch)
                ],
                use_tqdm=False,
                lora_request=self._lora if adapted else None,
            )
            written += [list(answer.outputs[0].token_ids) for answer in done]
            advance(len(written))
        return written

    def close(self) -> None:
        """End the engine's process, which gives its memory back for the next one."""
        self._llm.llm_engine.engine_core.shutdown()


def penalties(sampling: Sampling, width: int) -> Any:
    """OpenAI's presence and frequency penalties, which transformers does not have, on what was written behind `width`.

    https://platform.openai.com/docs/api-reference/chat/create: logit - count * frequency - (count > 0) * presence.
    """
    import torch

    def penalise(ids: Any, scores: Any) -> Any:
        if not (sampling.presence_penalty or sampling.frequency_penalty):
            return scores
        said = ids[:, width:]
        counts = torch.zeros_like(scores).scatter_add_(1, said, torch.ones_like(said, dtype=scores.dtype))
        return scores - counts * sampling.frequency_penalty - (counts > 0) * sampling.presence_penalty

    return penalise


@contextmanager
def _adapter(model: Any, *, on: bool) -> Iterator[None]:
    from peft import PeftModel

    if on or not isinstance(model, PeftModel):
        yield
    else:
        with model.disable_adapter():
            yield


def _kernel_rank(subject: Subject) -> int:
    if not subject.adapter:
        return _LORA_RANKS[1]
    config = read_json(subject.adapter / "adapter_config.json")
    rank = int(config["r"]) if isinstance(config, dict) else 0
    fitting = [known for known in _LORA_RANKS if known >= rank]
    if not fitting:
        raise BadInput(f"{subject.adapter}: its rank {rank} is more than vLLM takes; use --engine transformers.")
    return fitting[0]


def _share_of_gpu() -> dict[str, float]:
    """How much vLLM takes of a GPU's memory. It would ask for a share of the whole, and a server may be there, too."""
    import torch

    if not torch.cuda.is_available():
        return {}
    # Of a model that is gone torch still holds the memory.
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": 0.9 * free / total}


def _has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _silent(done: float, note: str = "") -> None:
    """Nobody watches."""
