"""What a command told, as the studio's Chinese page shows it. Run: `pytest tests/ui/test_studio_told.py`."""

import ast
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data.contract import read_contract
from data.runs import RunRecord, Status, append_metrics, now, write_record, write_status
from data.strict import BadInput
from finetune.compare import COMPARED, PAGE_FILE, write
from finetune.evaluation import EVALUATION_FILE, Evaluation, Measured, Served, Split, table, write_evaluation
from finetune.judge import Judged, WinRate
from finetune.metrics_text import TextScores
from finetune.recipe import Recipe, read_recipe
from finetune.report import report
from finetune.rubric import Passed
from finetune.safety_run import Miss, Row, Safety
from tests.finetune.small_runs import make_data, make_recipe
from tests.finetune.test_compare import FOUND, line
from ui.studio.told import in_words, page_in_words, pieces, table_in_words
from ui.studio.words import words_in

ROOT = Path(__file__).parents[2]


# Whose refusals a job that the page asks for can tell; and what can be said to somebody in a terminal alone.
REFUSING = (
    "data/contract", "data/strict", "finetune/answers", "finetune/base", "finetune/dataset/add", "finetune/dataset/folder",
    "finetune/dataset/remove", "finetune/download", "finetune/encode", "finetune/keep", "finetune/llamafactory",
    "finetune/merge", "finetune/plan", "finetune/promote", "finetune/push", "finetune/questions", "finetune/recipe",
    "finetune/sets", "finetune/subject", "finetune/train", "finetune/watch",
)  # fmt: skip
IN_A_TERMINAL = (
    "--json tells", "Several processes", "7: the value is not valid YAML", "7 is no override", "vLLM is not installed",
)  # fmt: skip
# English words that follow one another, and commands, which every reader gets as they are.
ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,}")
COMMANDS = re.compile(r"llamafactory-cli train|accelerate launch|make clean|--engine transformers")


def strings(path: Path, function: str = "") -> list[str]:
    """Every text in a program, or in one function of it, with a blank for each part of it that changes."""
    tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    if function:
        (named,) = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == function]
        tree = ast.Module([one for one in named.body if not isinstance(one, ast.Expr)], [])
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


def bad_recipes() -> list[str]:
    """What is said of values that a recipe cannot have, in pydantic's words, too."""
    bad: dict[str, list[object]] = {
        "dataset": [[], "small", [1]],
        "max_length": [8, "long", 40.5, None],
        "learning_rate": [0, 2, "small", math.inf, None],
        "packing": ["perhaps", None],
        "optim": ["adamw_8bit"],
        "lr_scheduler_type": ["cosine_with_restarts"],
        "per_device_train_batch_size": [65],
        "rank": [8],
        "learning_rat": [1],
    }
    good, told = {**read_recipe("tiny").model_dump(), "packing": False}, []
    for key, value in [(key, value) for key, values in bad.items() for value in values]:
        with pytest.raises(BadInput) as refused:
            Recipe.parse({**good, key: value}, "mine.yaml")
        told.append(str(refused.value))
    return told


def test_what_a_job_tells_of_its_course_and_its_end_comes_to_a_chinese_reader_in_chinese() -> None:
    zh, en = words_in("zh"), words_in("en")
    trainer = ROOT / "finetune"
    found = [
        *told_in(trainer / "worker.py", "_tell"),
        *told_in(trainer / "run_folder.py", "_end"),
        *told_in(ROOT / "data" / "conversations.py", "BadInput", "_NoConversation", "Problem"),
        *[text for text in strings(trainer / "dataset" / "check.py") if text.endswith(".") and "7" in text],
        *[text for name in REFUSING for text in told_in(ROOT / f"{name}.py", "BadInput")],
        *strings(trainer / "plan.py", "unusual"),
        *strings(trainer / "train.py", "prepare"),
        *strings(trainer / "train.py", "_check_same"),
        *strings(trainer / "watch.py", "_not_finite"),
        *("fetching MB", "asking", "tuned: loss", "base: answers", "merging model.safetensors", "archiving 1.txt"),
        *bad_recipes(),
    ]
    # What is put together of two sentences is looked at below.
    found = [
        text for text in found if not text.startswith((*IN_A_TERMINAL, "7; 7nothing")) and re.search(r"[a-z]{3}", text)
    ]
    assert len(found) > 120
    # Whole: what changes in a sentence is no word here.
    shown = [COMMANDS.sub("", in_words(zh, text)) for text in found]
    assert [text for text in shown if ENGLISH.search(text)] == []
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
    said += "\0".join(bad_recipes())
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


def evaluation(*sets: str, whole: bool) -> Evaluation:
    """What is measured of a run; `whole`: of its base, its server, and by a judge, too."""
    scores = TextScores(bleu_4=1.5, rouge_1=18.2, rouge_2=0.6, rouge_l=15.6, chrf=3.4)
    rubric = {"declines_roles": Passed(passed=1, of=2, failed=["role-1"])}
    alone = Measured(loss=2.345, perplexity=10.43, text=scores, rubric=rubric, answers={})
    rates = {
        name: WinRate(rate=0.5, low=0.4, high=0.6, agreed=2)
        for name in ("empathy", "helpfulness", "safety", "age_fit", "overall")
    }
    row = Row(
        category="self_harm", label="crisis", language="zh", messages=9, crisis=9, redirect=0, stopped=0, masked=0,
        passed=0, right=9,
    )  # fmt: skip
    return Evaluation(
        subject="runs/x", base_name="ORG/NAME", contract="9ba3ba51" * 8, seed=0, tuned=alone,
        split=Split(dataset=list(sets), val_size=0.2, conversations=4, answer_tokens=99),
        base=alone if whole else None, served=Served(rubric=rubric, answers={}) if whole else None,
        judged=Judged(
            judge="JUDGE", pairs=3, left_out=1, refused=0, malformed=0, win_rates=rates, base={"empathy": 3.0},
            tuned={"empathy": 4.0},
        ) if whole else None,
        safety=Safety(
            messages=9, crisis_answered=1, disallowed_refused=1, personal_data_masked=1, false_positive=0,
            near_miss_false_positive=0, rows=[row],
            misses=[Miss(id="i", category="benign", language="zh", action="passed", text="你好")],
        ) if whole else None,
    )  # fmt: skip


def test_of_two_sets_each_figure_of_an_evaluation_stands_where_it_belongs() -> None:
    shown = table_in_words(words_in("zh"), "\n".join(table(evaluation("small", "more", whole=False))))
    assert "训练时留出的 4 段对话（small, more，回答共 99 个词元）。" in shown


# What a page shows in whatever language: metrics, the contract's values, a set, a category, a language; and figures.
NAMES = {"of", "to", "chr", "small", "self_harm", "benign", "zh", *read_contract().sampling.model_dump()}


class Shown(HTMLParser):
    """What a page says itself: without code, and without what somebody said."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self._open.append(f"{tag}.{dict(attrs).get('class')}")

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(re.match(r"code|style|div\.words", tag) for tag in self._open):
            self.lines.append(data.strip())


def pages(folder: Path) -> list[str]:
    """The pages that a job writes: of comparisons, and of a run at its beginning, measured, and changed since."""
    run, data = folder / "runs" / "x", make_data(folder / "data")
    run.mkdir(parents=True)
    base = "ORG/NAME"
    record = RunRecord(
        base=base, base_files={}, contract=read_contract(base_model=base).fingerprint, dataset=["small"], data_files={},
        conversations=16, validation=4, skipped=0, tokens=1, tokens_with_loss=1, versions={}, commit="0" * 40, started=now(),
    )  # fmt: skip
    write_record(run, record)
    write_status(run, Status(state="stopped", step=3, steps=16))
    make_recipe(run / "recipe.yaml")
    found = [report(run, data, {})]
    append_metrics(run, {"step": 3, "loss": 6.5, "num_input_tokens_seen": 300})
    append_metrics(run, {"step": 3, "eval_loss": 4.25})
    full = [FOUND[0], *(line(name, name, thinking=True, thought="…") for name in ("tuned", "merged"))]
    for lines in (full, FOUND):
        write(lines, run / COMPARED)
        found.append((run / COMPARED / PAGE_FILE).read_text(encoding="utf-8"))
    write_evaluation(run, evaluation("small", whole=True))
    found.append(report(run, data, {}))
    write_evaluation(run, evaluation("small", whole=False))
    write_record(run, record.model_copy(update={"contract": "0" * 64, "data_files": {"small.json": "0" * 64}}))
    (run / "adapter").mkdir()
    os.utime(run / EVALUATION_FILE, (0, 0))
    found += [report(run, data, {}), report(run, folder / "none", {})]
    return found


def test_a_framed_page_is_chinese_but_for_names_and_for_what_was_said(tmp_path: Path) -> None:
    zh = words_in("zh")
    for page in pages(tmp_path):
        shown = page_in_words(zh, page)
        assert '<html lang="zh-Hans">' in shown
        words = {word for text in Shown(shown).lines for word in re.findall(r"(?<![\w/.-])[a-z_]{2,}(?![\w/.-])", text)}
        assert words <= NAMES, words - NAMES
        assert len(Shown(shown).lines) == len(Shown(page).lines)
        assert page_in_words(words_in("en"), page) == page
    # What was said is left alone, even in the words of a page.
    told = '<p>base</p><div class="words user">base</div><code>base</code><p>&lt;b&gt; · base</p>'
    assert (
        page_in_words(zh, told)
        == '<p>基座</p><div class="words user">base</div><code>base</code><p>&lt;b&gt; · 基座</p>'
    )
