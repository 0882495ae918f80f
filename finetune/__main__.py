"""The trainer's command line: `python -m finetune VERB …`; `python -m finetune VERB --help` explains one."""

import importlib
import os
import sys

from data.strict import BadInput, suggestion

# Verb, its module, and what it does. A module is imported only when its verb is called: torch takes seconds.
VERBS = {
    "data": "check, count, show and grow the conversations",
    "download": "fetch a base model from a hub, going on where an earlier download stopped",
    "pretrain": "make the small stand-in base of the demo from scratch",
    "train": "tune a base on the conversations",
    "recipe": "tell the knobs of a recipe, or check one",
    "promote": "let the server serve a model folder from its next start on",
    "archive": "put a model folder into one file",
    "push": "put a model folder onto a hub",
    "worker": "take the studio's jobs out of the runs folder, one at a time",
    "keep": "make the adapter of a run that was stopped, from its last checkpoint",
    "import-llamafactory": "make a recipe out of a LLaMA-Factory command or YAML",
    "bench-train": "measure training speed against LLaMA-Factory, or against TRL on a GPU",
    "chat": "talk to a run's adapter, a model folder or a base in the terminal",
    "merge": "fold an adapter into its base and seal the result as a model folder",
    "prove": "prove that a merged model says what its adapter says",
    "compare": "ask the same questions before and after tuning, side by side",
    "evaluate": "measure a run on what it was not taught, and the whole server on the safety set",
    "report": "put everything about a run on one page",
    "guard": "train the guard's small classifier on the labelled messages",
    "screen": "train the small reader of the model's answers on labelled ones",
}
# Where the module is not called as its verb: a package finetune.data would read like the data/ beside it.
MODULES = {
    "data": "dataset.verb",
    "bench-train": "bench_train",
    "import-llamafactory": "llamafactory",
    "recipe": "recipe_verb",
    "prove": "proof",
}


def main() -> int:
    """Run a verb. Exit code 2 and one sentence on standard error where something has to be mended."""
    verb, words = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if verb in ("-h", "--help"):
        print(__doc__)
        for name, told in VERBS.items():
            print(f"  {name:20} {told}")
        return 0
    if verb not in VERBS:
        print(
            f'python -m finetune: no verb "{verb}"{suggestion(verb, list(VERBS)) or "."} `--help` lists them.',
            file=sys.stderr,
        )
        return 2
    # torch's own Triton kernels want a C compiler and Python's headers, which a slim image or a rented machine lacks,
    # and the very first step of Qwen3 on a GPU (the angles of its positions) would ask for one.
    os.environ.setdefault("TORCH_DISABLE_NATIVE_JIT", "1")
    # The hub's client would fetch and send large files by Hugging Face's Xet servers, whatever HF_ENDPOINT says: a mirror has
    # none, and where the hub is out of reach, so are they.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    try:
        return int(importlib.import_module(f"finetune.{MODULES.get(verb, verb)}").main(words, dict(os.environ)))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` has seen enough; Python would try to write the rest once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
