"""Everything about a run on one page: what it was taught, how it went, what came out.

In: a run folder, with what was measured of it so far. Out: `report.html` in the run's folder and in its model folder.

    python -m finetune report                     # the newest finished run
    python -m finetune report runs/try --model models/try

The page needs nothing but itself. What was not measured yet stands there with the command that measures it.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.contract import SEAL_FILE, Contract, read_contract, sha256
from data.conversations import DATA_DIR
from data.runs import (
    ADAPTER,
    METRICS_FILE,
    MODEL,
    RECIPE_FILE,
    RunRecord,
    newest_finished,
    read_metrics,
    read_record,
    read_status,
    write_whole,
)
from data.strict import BadInput
from finetune.compare import COMPARED, LINES_FILE, PAGE_FILE, SUMMARY, exchanges, read_compared, summary
from finetune.dataset.counts import PERCENTILES, count
from finetune.dataset.lengths import find_ruler
from finetune.evaluation import EVALUATION_FILE, read_evaluation
from finetune.evaluation import table as evaluation_lines
from finetune.page import facts, markdown, page, table
from finetune.recipe import Recipe, read_recipe
from finetune.report_loss import smoothed
from finetune.sets import taken

# The chart's inner size and margins, in its own units.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 300, 48, 28, 8


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune report`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, help="the run folder (default: the newest finished one in runs/)")
    parser.add_argument("--model", type=Path, help="the model folder made from it (default: models/<run's id>)")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    given = parser.parse_args(words)
    run = given.run or newest_finished(Path("runs"))
    model = given.model or Path("models") / run.resolve().name
    if given.model and not (model / SEAL_FILE).is_file():
        raise BadInput(f"{model}: no {SEAL_FILE}: --model names a model folder, as `make merge` makes them.")
    text = report(run, given.data_dir, environment)
    for folder in (run, model):
        if folder == run or (folder / SEAL_FILE).is_file():
            write_whole(folder / PAGE_FILE, text)
            print(folder / PAGE_FILE)
    return 0


def report(run: Path, data_dir: Path, environment: Mapping[str, str]) -> str:
    """The page of a run. Raises `BadInput` where it is no run."""
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder; `make train` makes one.")
    record = read_record(run)
    contract = read_contract(base_model=record.base)
    sections = {
        "Before and after": _compared(run),
        "Evaluation": _evaluated(run),
        "Loss": _losses(run),
        "Data": _data(record, read_recipe(str(run / RECIPE_FILE)), data_dir, contract, environment),
        "Recipe": f'<pre class="columns"><code>{escape((run / RECIPE_FILE).read_text(encoding="utf-8").strip())}</code></pre>',
        "Contract": _contract(contract, record.contract),
    }
    body = "\n".join(f"<section>\n<h2>{title}</h2>\n{content}\n</section>" for title, content in sections.items())
    return page(f"Report of {run.resolve().name}", f"{_head(run, record)}\n{body}")


def loss_chart(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The loss curves as a picture in the page: training as logged and smoothed, and validation."""
    training = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    validation = [(line["step"], line["eval_loss"]) for line in metrics if "eval_loss" in line]
    if not training:
        return _unmeasured(f"{METRICS_FILE} holds no loss.", "make train")
    steps, losses = zip(*training, strict=True)
    last = max(step for step, _ in (*training, *validation))
    highest = max(loss for _, loss in (*training, *validation))
    top = next(nice for nice in _nice_numbers() if nice >= highest)

    def place(step: float, loss: float) -> tuple[float, float]:
        return _LEFT + step / last * (_WIDTH - _LEFT - 8), _TOP + (1 - loss / top) * (_HEIGHT - _TOP - _BOTTOM)

    def curve(points: Iterable[tuple[float, float]], color: str, width: float) -> str:
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        return f'<polyline points="{where}" stroke="var(--{color})" stroke-width="{width}"/>'

    grid = ""
    for part in range(5):
        x, y = place(last, top * part / 4)
        grid += f'<line class="grid" x1="{_LEFT}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        grid += f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * part / 4:g}</text>'
        x, _ = place(last * part / 4, 0)
        anchor = "end" if part == 4 else "middle"
        grid += f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{last * part / 4:.0f}</text>'
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--validation)"/>'
        for x, y in (place(*point) for point in validation)
    )
    names = (("train", "training"), ("smooth", "training, smoothed"), ("validation", "validation"))
    legend = "".join(f'<span><i style="background: var(--{color})"></i>{name}</span>' for color, name in names)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Loss by step: training from '
        f'{losses[0]:.2f} to {losses[-1]:.2f}{f", validation {validation[-1][1]:.2f}" if validation else ""}">{grid}'
        f"{curve(training, 'train', 1)}{curve(zip(steps, smoothed(losses), strict=True), 'smooth', 2)}"
        f"{curve(validation, 'validation', 1.5)}{dots}</svg>"
        f"<figcaption>{legend}<span>loss per token, by step</span></figcaption></figure>"
    )


def _head(run: Path, record: RunRecord) -> str:
    status = read_status(run)
    # What was kept of a run that was stopped has seen a part of them.
    done = "" if status.state == "done" else f"{status.step:,} of "
    pairs = [
        ("base", record.base),
        ("contract", record.contract[:8]),
        ("steps", f"{done}{record.steps:,}"),
        ("trained on", record.device),
        ("started", record.started[:16].replace("T", " ") + " UTC"),
        ("code", record.commit[:12] + ("-dirty" if record.commit.endswith("-dirty") else "")),
    ]
    return f"<header>\n<h1>{escape(run.resolve().name)}</h1>\n{facts(pairs)}\n</header>"


def _compared(run: Path) -> str:
    path = run / COMPARED / LINES_FILE
    if not path.is_file():
        return _unmeasured("Not compared yet:", f"python -m finetune compare {run}")
    found = read_compared(path)
    return f"{_outlived(run, path, 'compare')}{table(SUMMARY, summary(found))}\n{exchanges(found)}"


def _evaluated(run: Path) -> str:
    path = run / EVALUATION_FILE
    if not path.is_file():
        return _unmeasured("Not measured yet:", f"python -m finetune evaluate {run}")
    found = read_evaluation(path)
    # The page has a title of its own.
    shown = _outlived(run, path, "evaluate")
    shown += markdown(line for line in evaluation_lines(found) if not line.startswith("# "))
    if found.safety:
        return shown
    command = f"python -m finetune evaluate {run} --server URL"
    return f"{shown}\n{_unmeasured('The safety set through the whole server is not measured yet:', command)}"


def _outlived(run: Path, path: Path, verb: str) -> str:
    """What is to be said of figures that are older than the run's weights, or nothing."""
    weights = [folder.stat().st_mtime for folder in (run / ADAPTER, run / MODEL) if folder.is_dir()]
    if path.stat().st_mtime >= max(weights, default=0.0):
        return ""
    return _unmeasured("Measured before the run went on, of weights that are gone:", f"python -m finetune {verb} {run}")


def _losses(run: Path) -> str:
    metrics = list(read_metrics(run))
    last = {name: value for line in metrics for name, value in line.items()}
    named = (("last training loss", "loss"), ("last validation loss", "eval_loss"))
    shown = [(name, f"{last[key]:.3f}") for name, key in named if key in last]
    seen = last.get("num_input_tokens_seen")
    return loss_chart(metrics) + facts([*shown, *([("tokens seen", f"{seen:,}")] if seen else [])])


def _data(record: RunRecord, recipe: Recipe, data_dir: Path, contract: Contract, environment: Mapping[str, str]) -> str:
    taught = facts(
        [
            ("for training", f"{record.conversations:,}"),
            ("for validation", f"{record.validation:,}"),
            ("bad records left out", f"{record.skipped:,}"),
            ("tokens an epoch", f"{record.tokens:,}"),
            ("of them with loss", f"{record.tokens_with_loss:,}"),
        ]
    )
    files = table(("file", "SHA-256"), [(name, digest[:16] + "…") for name, digest in record.data_files.items()])
    try:
        found, _ = taken(recipe, data_dir, skip_bad=True)
    except BadInput as error:
        return f"{taught}{files}{_unmeasured(f'The sets cannot be counted: {error}', 'python -m finetune data stats')}"
    changed = [
        name for name, digest in record.data_files.items()
        if not (data_dir / name).is_file() or sha256(data_dir / name) != digest
    ]  # fmt: skip
    counts = count(
        list(record.dataset), found, find_ruler(None, contract, environment), recipe.val_size, record.skipped
    )
    note = f" {', '.join(changed)} changed since the run." if changed else ""
    ages = counts.ages()
    lengths = [(name, *map(str, values)) for name, values in counts.percentiles().items()]
    topics = [(topic, *(str(ages_of[age]) for age in ages), str(ages_of.total())) for topic, ages_of in counts.topics()]
    return (
        f"{taught}{files}<p>What the run took of its sets, as they are here, measured with {escape(counts.measured_by)}: "
        f"{counts.conversations:,} conversations.{escape(note)}</p>\n"
        + table(("length of", *(f"{share}%" for share in PERCENTILES)), lengths, caption="So many per cent are at most")
        + f"<details><summary>{len(topics)} topics by age</summary>{table(('topic', *ages, 'all'), topics)}</details>"
    )


def _contract(contract: Contract, taught: str) -> str:
    sampling = contract.sampling.model_dump()
    changed = (
        "" if contract.fingerprint == taught
        else f'<p class="cut">data/contract.yaml says {contract.fingerprint[:8]} now: it was changed since the run.</p>'
    )  # fmt: skip
    pairs = [("thinking", "on" if contract.thinking else "off"), ("window", str(contract.window))]
    pairs += [(name, f"{value:g}") for name, value in sampling.items()]
    return f"<p>Fingerprint <code>{taught}</code></p>{changed}<p>{escape(contract.persona)}</p>{facts(pairs)}"


def _unmeasured(told: str, command: str) -> str:
    return f'<p class="unmeasured">{escape(told)} <code>{escape(command)}</code></p>'


def _nice_numbers() -> Iterator[float]:
    """1, 2, 4, 8 of each power of ten: a quarter of one is short to write."""
    for power in range(-3, 6):
        for step in (1, 2, 4, 8):
            yield step * 10.0**power
