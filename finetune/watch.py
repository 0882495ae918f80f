"""What a run does beside training: tells how it goes, stops when asked, keeps only whole checkpoints, notices NaN.

In: the trainer's events. Out: lines, bar, status.json, metrics.jsonl, TensorBoard events, closed checkpoints.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

from data.runs import CHECKPOINTS, Status, append_metrics, dump, now, write_status, write_whole
from data.strict import BadInput, read_json
from finetune.checkpoints import checkpoints_in, close_folder, remove_old
from finetune.machine_use import MachineUse
from finetune.progress import Advance
from finetune.report_loss import draw_loss

log = logging.getLogger(__name__)

# What has been added up since the last logged step; without it the first line after a resume would be another one.
_LOSS_FILE = "loss.json"
# What the trainers log, and what of it is kept: times differ from run to run, and step and tokens are ours.
_KEPT = (
    "loss", "grad_norm", "learning_rate", "epoch", "eval_loss", "entropy", "mean_token_accuracy", "eval_entropy",
    "eval_mean_token_accuracy",
)  # fmt: skip


class Stop:
    """Whether a person or the system asked the run to end: Ctrl-C, SIGTERM, or SIGHUP of a terminal that is gone. The second
    time it ends at once."""

    def __init__(self) -> None:
        # The signal's number.
        self.asked = 0
        # While the trainer runs a step is finished first; before that there is nothing to save.
        self.patient = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            # The shell sends it, and the system once more when the shell has ended.
            signal.signal(number, signal.SIG_IGN)
        if not self.patient or (self.asked and number != signal.SIGHUP):
            self.asked = number
            raise KeyboardInterrupt
        self.asked = number
        log.info("stopping after this step, with a checkpoint; once more stops at once")


@contextmanager
def stopping() -> Iterator[Stop]:
    """A `Stop` that listens as long as the block runs."""
    stop = Stop()
    heard = [signal.SIGINT, signal.SIGTERM]
    # Under nohup a run outlives its terminal.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


class Watch(TrainerCallback):  # type: ignore[misc]
    """The callback. Only the main process writes; all of them agree on when to stop."""

    def __init__(
        self,
        run: Path,
        trainer: Any,
        records: Mapping[int, str],
        advance: Advance,
        stop: Stop,
        *,
        keep: int,
        fastest: float,
    ):
        """`records` names a conversation by the hash of its ids, a tuple; `keep` is how many checkpoints are kept.

        `fastest` is how many tokens a second there would be if the machine did nothing but multiply matrices.
        """
        self._run, self._trainer, self._records = run, trainer, records
        self._advance, self._stop, self._keep, self._fastest = advance, stop, keep, fastest
        self._machine = MachineUse()
        self._main = trainer.is_world_process_zero()
        self._inputs: dict[str, Any] = {}
        self._note = ""
        self._events: SummaryWriter | None = None
        # Tokens before, and seconds of computing since the last logged step.
        self._tokens, self._seconds, self._began = 0, 0.0, 0.0
        # The step that training began at, and when.
        self._first, self._started = 0, 0.0
        # The batch that the model has just seen, for the sentence on NaN.
        trainer.model.register_forward_pre_hook(self._remember, with_kwargs=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tokens = state.num_input_tokens_seen
        self._first, self._started = state.global_step, time.monotonic()
        kept = self._run / CHECKPOINTS / f"checkpoint-{state.global_step}" / _LOSS_FILE
        if state.global_step and kept.is_file():
            sums = read_json(kept)
            if isinstance(sums, dict):
                self._trainer._tr_loss += sums["sum"]
                self._trainer._globalstep_last_logged = sums["logged"]
        if self._main:
            # What an earlier process wrote after this step is hidden.
            self._events = SummaryWriter(str(self._run), purge_step=state.global_step + 1)
            self._tell(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._check_loss(state)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Before the step: what NaN would spoil is still good.
        self._check_loss(state)
        gradients = [weight.grad for weight in self._trainer.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # FSDP2: each process has a part of every gradient.
        if not torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm):
            # It is the sum of all processes', each of which has a batch of its own.
            raise BadInput(self._not_finite(state, "the gradient", self._batch()))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._seconds += time.monotonic() - self._began
        self._advance(state.global_step, self._note)
        if self._asked_to_stop() and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        told = {name: float(logs[name]) for name in _KEPT if name in logs}
        if not self._main or not {"loss", "eval_loss"} & told.keys():
            return
        if not all(math.isfinite(value) for value in told.values()):
            raise BadInput(
                f"step {state.global_step}: the validation loss is not a number; lower learning_rate, or check the "
                "validation's conversations."
            )
        if "loss" in told:
            told["num_input_tokens_seen"] = state.num_input_tokens_seen
            speed = (state.num_input_tokens_seen - self._tokens) / max(self._seconds, 1e-9)
            told["tokens_per_second"] = round(speed, 1)
            told["share_of_peak"] = round(speed / self._fastest, 4)
            told["seconds_left"] = round(self._seconds_left(state), 1)
            told |= self._machine.now()
            self._tokens, self._seconds = state.num_input_tokens_seen, 0.0
            self._note = f"loss {told['loss']:.3f} · {speed:,.0f} tokens/s"
            # A step of a large model takes minutes: the bar does not wait for the next one's end.
            self._advance(state.global_step, self._note)
            log.info(
                "step %d of %d: loss %.4f, learning rate %.2e, %s tokens, %s tokens/s",
                state.global_step, state.max_steps, told["loss"], told["learning_rate"],
                f"{state.num_input_tokens_seen:,}", f"{speed:,.0f}",
            )  # fmt: skip
        else:
            log.info("step %d of %d: validation loss %.4f", state.global_step, state.max_steps, told["eval_loss"])
        append_metrics(self._run, {"step": state.global_step, "time": now(), **told})
        if self._events:
            for name, value in told.items():
                self._events.add_scalar(name, value, state.global_step)
            self._events.flush()
        self._tell(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Each process writes its own random state into the folder.
        self._trainer.accelerator.wait_for_everyone()
        # Each has a loss of its own; the mean, which is logged, stays the same when all go on from it.
        loss = float(self._trainer.accelerator.gather(self._trainer._tr_loss).mean())
        if not self._main:
            return
        folder = self._run / CHECKPOINTS
        # TRL writes a model card beside the checkpoints too.
        (folder / "README.md").unlink(missing_ok=True)
        newest = checkpoints_in(folder)[0][1]
        sums = {"sum": loss, "logged": self._trainer._globalstep_last_logged}
        write_whole(newest / _LOSS_FILE, dump(sums))
        close_folder(newest)
        # A run that is asked to stop saves at a step that may not be one to log at.
        self._tell(state)
        remove_old(folder, self._keep)
        log.info("step %d of %d: saved %s", state.global_step, state.max_steps, newest.name)
        draw_loss(self._run)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._events:
            self._events.close()

    def _seconds_left(self, state: Any) -> float:
        """By the clock and not by the steps alone: saving and validating take their time, too."""
        done: int = state.global_step - self._first
        left: int = state.max_steps - state.global_step
        return (time.monotonic() - self._started) / max(1, done) * left

    def _tell(self, state: Any) -> None:
        status = Status(
            state="running", step=state.global_step, steps=state.max_steps, pid=os.getpid(), message=self._note
        )
        write_status(self._run, status)

    def _asked_to_stop(self) -> bool:
        # A signal reaches the processes at different steps.
        return self._in_any(bool(self._stop.asked))

    def _in_any(self, here: bool) -> bool:
        """Whether it is so in one of the processes, which have to stop at the same step."""
        if self._trainer.accelerator.num_processes == 1:
            return here
        asked = torch.tensor(int(here), device=self._trainer.accelerator.device)
        return bool(self._trainer.accelerator.gather(asked).max())

    def _remember(self, model: Any, words: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        self._inputs = inputs

    def _check_loss(self, state: Any) -> None:
        bad = not torch.isfinite(self._trainer._tr_loss)
        if self._in_any(bad):
            raise BadInput(self._not_finite(state, "the loss", self._batch() if bad else []))

    def _not_finite(self, state: Any, what: str, records: list[str]) -> str:
        """The sentence, the same in every process: `records` are those of this one that may be the cause."""
        return (
            f"step {state.global_step + 1}: {what} is not a finite number, in the batch of "
            f"{', '.join(gather_object(records)) or 'unknown records'}; look at these records, or lower learning_rate."
        )

    def _batch(self) -> list[str]:
        """The ids of the conversations in the batch that the model saw last."""
        found = []
        for row, ids in enumerate(self._inputs["input_ids"]):
            if "position_ids" in self._inputs:
                starts = (self._inputs["position_ids"][row] == 0).nonzero().flatten().tolist()
                parts = [ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
            else:
                parts = [ids[self._inputs["attention_mask"][row].bool()]]
            found += [self._records.get(hash(tuple(part.tolist()))) for part in parts]
        return [name for name in found if name is not None]
