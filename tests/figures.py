"""README's figures: what the demo's model was seen to do, from one command to two tables.

In: the demo's run and model (made where they are not there), a server of it. Out: `tests/results/evaluation.json` and
`.md`, the tables between the marks of `tests/results/README.md` and `README.zh-CN.md`, and their last sentence between
those of README.md and README.zh-CN.md.

    make figures                              # some minutes on two CPU cores
    python -m tests.figures --tables          # the tables alone, from the results that are there
"""

import argparse
import os
import re
import subprocess
import sys

from data.strict import BadInput
from finetune.evaluation import EVALUATION_FILE, TABLE_FILE, Evaluation, read_evaluation
from finetune.pretrain import STANDIN
from tests import demo

RESULTS = demo.ROOT / "tests" / "results"
READMES = {"en": "README.md", "zh": "README.zh-CN.md"}
MARKS = ("<!-- figures: make figures -->", "<!-- end of figures -->")
# The checks worth a reader's time at first; all of them stand in the results.
SHOWN = (
    "ends_by_itself", "in_the_childs_language", "length_fits_age", "says_it_is_an_ai", "declines_roles", "gives_help_line",
)  # fmt: skip
NAMES = {
    "en": {
        "base": "base alone", "tuned": "tuned alone", "served": "guard and tuned",
        "loss": "loss on answers held out", "rouge_l": "ROUGE-L", "chrf": "chrF",
        "ends_by_itself": "ends by itself", "in_the_childs_language": "in the child's language", "length_fits_age": "length fits the age",
        "says_it_is_an_ai": "says it is an AI when asked", "declines_roles": "declines to be kin or a partner",
        "gives_help_line": "gives a help line in danger",
    },
    "zh": {
        "base": "仅基座", "tuned": "仅微调后", "served": "护栏加微调后",
        "loss": "留出回答上的损失", "rouge_l": "ROUGE-L", "chrf": "chrF",
        "ends_by_itself": "回答自己结束", "in_the_childs_language": "用孩子的语言", "length_fits_age": "长度适合年龄",
        "says_it_is_an_ai": "被问到时说自己是 AI", "declines_roles": "谢绝当亲人或恋人",
        "gives_help_line": "危险时给出求助电话",
    },
}  # fmt: skip
SAFETY = {
    "en": (
        "Through the whole server, on the {messages} labelled messages written apart: {crisis:.1%} of the cries for help got the "
        "crisis answer, {disallowed:.1%} of what is disallowed was refused or redirected, and {false:.1%} of the harmless "
        "messages were not answered. [Every miss]({misses}) is named."
    ),
    "zh": (
        "经过整个服务器，在另外写成的 {messages} 条标注消息上：{crisis:.1%} 的求助得到了危机回答，{disallowed:.1%} 的不当请求被拒绝或"
        "引开，{false:.1%} 的无害消息没有得到回答。[每一条漏判]({misses})都列了出来。"
    ),
}


def main() -> int:
    """Measure, unless only the tables are wanted, and write the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", action="store_true", help="write the tables from the results that are there")
    given = parser.parse_args()
    os.chdir(demo.ROOT)
    # For the server and the measuring, which inherit it: a thousand messages are more than a key has a minute, and without a
    # judge the figures are those that anybody gets.
    os.environ["MINDPAL_REQUESTS_PER_MINUTE"] = "0"
    os.environ.pop("JUDGE_URL", None)
    try:
        if not given.tables:
            measure()
        found = read_evaluation(RESULTS / EVALUATION_FILE)
        for language in READMES:
            for name, told in figures(found, language).items():
                path = demo.ROOT / name
                path.write_text(with_figures(path.read_text(encoding="utf-8"), told, name), encoding="utf-8")
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except demo.StepFailed as failed:
        print(f"figures: {failed}", file=sys.stderr)
        return 1
    return 0


def measure() -> None:
    """Make the demo, serve it and evaluate it into the results. Raises `demo.StepFailed`."""
    planned = demo.plan(str(STANDIN.relative_to(demo.ROOT)))
    demo.make(planned)
    log = planned.run / "serve.log"
    with demo.serving(planned.model, demo.free_port(), log) as address:
        words = ["evaluate", str(planned.run), "--server", address, "--out", str(RESULTS.relative_to(demo.ROOT))]
        done = subprocess.run([sys.executable, "-m", "finetune", *words], check=False)
    if done.returncode:
        raise demo.StepFailed("evaluate", done.returncode)


def figures(found: Evaluation, language: str) -> dict[str, str]:
    """What stands between the marks of each file: the sentence in README, the table and the sentence beside the results."""
    names, base, tuned, served = NAMES[language], found.base, found.tuned, found.served
    if base is None or served is None or found.safety is None:
        raise BadInput(f"{RESULTS / EVALUATION_FILE}: is not whole; make it with `make figures`.")
    rows = [
        ["", names["base"], names["tuned"], names["served"]],
        ["---"] * 4,
        [names["loss"], f"{base.loss:.2f}", f"{tuned.loss:.2f}", "–"],
        [names["rouge_l"], f"{base.text.rouge_l:.1f}", f"{tuned.text.rouge_l:.1f}", "–"],
        [names["chrf"], f"{base.text.chrf:.1f}", f"{tuned.text.chrf:.1f}", "–"],
    ]
    for check in SHOWN:
        passed = [rubric[check] for rubric in (base.rubric, tuned.rubric, served.rubric)]
        rows.append([names[check], *(f"{one.passed}/{one.of}" for one in passed)])
    beside = RESULTS.relative_to(demo.ROOT)
    readme, sentence = (
        SAFETY[language].format(
            messages=found.safety.messages,
            crisis=found.safety.crisis_answered,
            disallowed=found.safety.disallowed_refused,
            false=found.safety.false_positive,
            misses=misses,
        )
        for misses in (beside / TABLE_FILE, TABLE_FILE)
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return {READMES[language]: readme, str(beside / READMES[language]): f"{table}\n\n{sentence}"}


def with_figures(text: str, table: str, name: str) -> str:
    """A README with the table between its marks. Raises `BadInput` where the marks are gone."""
    pattern = re.compile(f"{re.escape(MARKS[0])}\n.*?{re.escape(MARKS[1])}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise BadInput(
            f"{name}: has no place for the figures; put {MARKS[0]} and {MARKS[1]} around it, each on a line."
        )
    return pattern.sub(lambda _: f"{MARKS[0]}\n{table}\n{MARKS[1]}", text)


if __name__ == "__main__":
    sys.exit(main())
