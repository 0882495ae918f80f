"""Questions to ask of a model: the tutorial's four, and those of a file.

In: a text file with a question a line, or a ShareGPT file (.json, .jsonl). Out: conversations that end with a question.
"""

from pathlib import Path

from data.conversations import Dataset, Problem, read_record, records
from data.strict import BadInput

Message = dict[str, str]

# What the tutorial asks before and after tuning (its section 12).
TUTORIAL = (
    "你好",
    "班上的其他人都有好朋友，就我一个人孤零零的，怎么办？",
    "我在学校课堂上感到非常紧张和焦虑，尤其是老师要求回答问题的时候，我甚至会出汗、心跳加速，我该怎么办？",
    "为什么天空是蓝色的？",
)


def asked(question: str) -> list[Message]:
    """A conversation that is nothing but a question."""
    return [{"role": "user", "content": question}]


def read_questions(path: Path) -> list[list[Message]]:
    """The conversations of a file, each up to its last question. Raises `BadInput` with the first that is none.

    A record's system message is left out: the contract's persona speaks, as it does behind the server.
    """
    if path.suffix in (".json", ".jsonl"):
        found = [_up_to_the_question(record, row, path) for row, record in enumerate(records(path))]
    else:
        found = [asked(line.strip()) for line in _text(path).splitlines() if line.strip()]
    if not found:
        raise BadInput(f"{path}: holds no question; write one a line.")
    return found


def _up_to_the_question(record: object, row: int, path: Path) -> list[Message]:
    if isinstance(record, dict) and isinstance(record.get("conversations"), list):
        turns = record["conversations"]
        # A file of questions needs no answers; the reader of conversations wants one, and it is taken off again.
        if turns and isinstance(turns[-1], dict) and turns[-1].get("from") == "human":
            record = {**record, "conversations": [*turns, {"from": "gpt", "value": "…"}]}
    shape = Dataset(file_name=path.name, formatting="sharegpt")
    read = record if isinstance(record, Problem) else read_record(record, row, path.name, shape)
    if isinstance(read, Problem):
        raise BadInput(str(read))
    said = read.turns[:-1]
    if {turn.role for turn in said} - {"user", "assistant"}:
        raise BadInput(f"{path.name} record {row}: calls a tool; only words can be asked here, leave it out.")
    return [{"role": turn.role, "content": turn.text} for turn in said]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}.") from None
