"""What a command told, as the studio's Chinese page shows it. Run: `pytest tests/ui/test_studio_told.py`."""

import ast
import re
from pathlib import Path

from ui.studio.told import in_words, pieces, table_in_words
from ui.studio.words import words_in

ROOT = Path(__file__).parents[2]


def strings(path: Path) -> list[str]:
    """Every text in a program, with a blank for each part of it that changes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inner
    ]
    return [text for node in found if (text := sample(node))]


def sample(node: ast.expr) -> str:
    """A text as a program could say it, with 7 for each part that changes."""
    if isinstance(node, ast.JoinedStr):
        return "".join(sample(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        # `{near or "."}`: without a suggestion.
        value = node.value
        return sample(value.values[-1]) if isinstance(value, ast.BoolOp) else "7"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def told_in(path: Path, *callers: str) -> list[str]:
    """The sentences that a program gives to these functions."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in callers]
    return [text for call in named for given in call.args if len((text := sample(given)).split()) > 2]


def test_what_a_job_tells_of_its_course_and_its_end_comes_to_a_chinese_reader_in_chinese() -> None:
    zh, en = words_in("zh"), words_in("en")
    found = [
        *told_in(ROOT / "finetune" / "worker.py", "_tell"),
        *told_in(ROOT / "finetune" / "run_folder.py", "_end"),
        *told_in(ROOT / "finetune" / "plan.py", "BadInput"),
        *told_in(ROOT / "data" / "conversations.py", "BadInput", "_NoConversation", "Problem"),
        *[text for text in strings(ROOT / "finetune" / "dataset" / "check.py") if text.endswith(".") and "7" in text],
    ]
    assert len(found) > 60
    # A sentence made of another one alone is read as that one is.
    unknown = [text for text in found if in_words(zh, text) == text and re.search(r"[a-z]{3}", text)]
    assert unknown == []
    assert all(in_words(en, text) == text for text in found)


def test_a_sentence_within_a_sentence_is_told_too_and_an_unknown_one_as_it_is() -> None:
    words = words_in("zh")
    told = (
        'mine.json record 0, turn 1: its "from" is \'gptt\', which is no role; did you mean "gpt"? Roles: human, gpt; '
        "and 2 more errors; nothing was registered."
    )
    shown = in_words(words, told)
    assert shown.startswith("mine.json 的记录 0、第 1 句（都从 0 数起）：")
    for part in ("没有这个角色", '是不是 "gpt"', "另外还有 2 个错误；什么也没有登记。"):
        assert part in shown
    lower = "lower max_length or per_device_train_batch_size, or set gradient_checkpointing=true, and start a new run."
    assert not re.search(
        r"out of|lower|start", in_words(words, f"runs/x: out of memory: the system killed it; {lower}")
    )
    for unknown in ("", "CUDA error: device-side assert", "x: y is z", "KeyError: 'r'", "a" * 100_000):
        assert in_words(words, unknown) == unknown


def test_the_table_knows_nothing_that_no_command_says_any_more() -> None:
    folders = [ROOT / "data", ROOT / "finetune", ROOT / "ui" / "studio"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(files) > 50
    said = "\0".join(text for path in files for text in strings(path))
    said += (ROOT / "finetune" / "dataset" / "house.yaml").read_text(encoding="utf-8")
    # A check of the rubric is told by its name.
    said += said.replace("_", " ")
    table = words_in("zh").told
    # A sentence may be put together of clauses.
    clauses = {one: [clause for piece in pieces(one) for clause in re.split(r"[;,:?()]+", piece)] for one in table}
    gone = [(one, clause) for one, found in clauses.items() for clause in found if clause.strip() not in said]
    assert gone == []
    # Nothing is shown that was not told.
    assert [
        one
        for one, shown in table.items()
        if not set(re.findall(r"\{(\w+)\}", shown)) <= set(re.findall(r"\{(\w+)\}", one))
    ] == []


def test_the_table_of_an_evaluation_is_read_in_chinese_with_its_figures_as_they_are() -> None:
    table = "# Evaluation of runs/x\n\n|  | base alone |\n| --- | --- |\n| loss on answers | 6.131 |\n| ends by itself | 3 of 4 |"
    shown = table_in_words(words_in("zh"), table)
    assert shown == "# runs/x 的评测\n\n|  | 基座 |\n| --- | --- |\n| 回答的损失 | 6.131 |\n| 自己说完 | 3 of 4 |"
    assert table_in_words(words_in("en"), table) == table
