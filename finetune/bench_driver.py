"""LLaMA-Factory's own trainer with one line a step written for the bench. Run with the Python of its environment.

In: LLaMA-Factory's arguments, and the file to write in BENCH_STEPS. Out: `{"step": 3, "num_input_tokens_seen": 6021}`
and the like: real tokens since the beginning, padding left out.
"""

import json
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def main() -> None:
    """Train as `llamafactory-cli train` does."""
    from llamafactory.train.tuner import run_exp

    run_exp(callbacks=[steps_writer(Path(os.environ["BENCH_STEPS"]))])


def steps_writer(file: Path) -> Any:
    """A callback that counts the real tokens of every forward pass and appends a line after every step."""

    class Steps(TrainerCallback):  # type: ignore[misc]
        tokens = 0

        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **_: Any
        ) -> None:
            def count(module: Any, positional: Any, named: dict[str, Any]) -> None:
                self.tokens += int((named["input_ids"] != processing_class.pad_token_id).sum())

            model.register_forward_pre_hook(count, with_kwargs=True)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            line = {"step": state.global_step, "num_input_tokens_seen": self.tokens}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")

    return Steps()


if __name__ == "__main__":
    main()
