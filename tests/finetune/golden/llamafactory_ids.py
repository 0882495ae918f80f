"""The token ids and labels that LLaMA-Factory itself makes of a data folder. Made tests/finetune/golden/expected.jsonl.

In: a folder with `dataset_info.json`, and a tokenizer's folder. Out: a file with one line per record of each set and
each value of `enable_thinking`. LLaMA-Factory 0.9.5 has an environment of its own, which is no part of this project:

    python -m venv VENV && VENV/bin/pip install llamafactory==0.9.5
    cd tests/finetune/golden && VENV/bin/python llamafactory_ids.py . tokenizer expected.jsonl
"""

import json
import sys
import tempfile
from pathlib import Path

from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.loader import get_dataset
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import AutoTokenizer, Seq2SeqTrainingArguments


def main() -> None:
    data_dir, tokenizer_dir, out = sys.argv[1:4]
    names = list(json.loads((Path(data_dir) / "dataset_info.json").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as cache, Path(out).open("w", encoding="utf-8") as file:
        model = ModelArguments(model_name_or_path=tokenizer_dir, cache_dir=cache)
        training = Seq2SeqTrainingArguments(output_dir=cache, report_to=[], use_cpu=True)
        for thinking in (False, True):
            for name in names:
                arguments = DataArguments(
                    template="qwen3", dataset=name, dataset_dir=data_dir, cutoff_len=10**6, enable_thinking=thinking
                )
                tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
                template = get_template_and_fix_tokenizer(tokenizer, arguments)
                found = get_dataset(template, model, arguments, training, stage="sft", tokenizer=tokenizer)
                for row, record in enumerate(found["train_dataset"]):
                    ids = {"input_ids": record["input_ids"], "labels": record["labels"]}
                    line = {"dataset": name, "thinking": thinking, "row": row, **ids}
                    file.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
