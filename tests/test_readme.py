"""What README promises: its commands exist, its example runs, its figures are what the command prints."""

import re
import subprocess
from pathlib import Path

import pytest

from data.safety import HELD_OUT, SAFETY_DIR, read_messages
from data.strict import read_json
from finetune.__main__ import VERBS
from finetune.bench_results import read_bench, write_bench
from serve.guard.bench import DRAWN, Bench, act, sources
from serve.guard.guard import read_guard

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")
# Beside them: all figures, the trainer's details, what stands where.
RESULTS = tuple(f"tests/results/{name}" for name in READMES)
OTHERS = (*RESULTS, "finetune/README.md", "CONTRIBUTING.md")
GUARD_RESULTS = ROOT / "tests" / "results" / "bench-guard.json"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("readme", [*READMES, *OTHERS])
def test_every_make_verb_exists(readme: str) -> None:
    named: set[str] = set()
    for words in re.findall(r"(?:^ *|`)make ((?:[a-z-]+ ?)+)", text_of(readme), re.MULTILINE):
        named |= set(words.split())
    assert len(named) >= (8 if readme in READMES else 3)
    assert named <= targets()


def commands(text: str) -> list[str]:
    """What is typed, without what is said of it."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"\s+#.*|<[^>]*>", "", line).strip() for block in blocks for line in block.splitlines()]


def test_both_languages_tell_the_same_commands() -> None:
    english, chinese = (commands(text_of(readme)) for readme in READMES)
    assert english == chinese
    assert len(english) > 20
    for readme in READMES:
        assert (ROOT / "ui/companion/pictures/chat.png").is_file()
        assert "(ui/companion/pictures/chat.png)" in text_of(readme)


def test_bare_make_lists_every_verb() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "WHERE=local"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    verbs = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(verbs) == sorted(targets())
    # Under headings, in the order in which a person comes to need them.
    headings = [line.partition(" (")[0] for line in lines if line and not line.startswith(" ")]
    wanted = ["The main job", "Fine-tuning", "Server and page", "Containers", "Measuring", "Working on MindPal"]
    assert [heading.partition(",")[0] for heading in headings] == wanted
    order = [verbs.index(verb) for verb in ("demo", "train", "serve", "up", "bench-guard", "lint")]
    assert order == sorted(order)
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("readme", [*READMES, *OTHERS])
def test_every_module_and_folder_exists(readme: str) -> None:
    text = text_of(readme)
    verbs = set(re.findall(r"python -m finetune ([a-z][a-z-]*)", text))
    assert verbs <= VERBS.keys()
    folders = re.findall(r"^\| `([a-z]+/)` \|", text, re.MULTILINE)
    assert len(folders) == (6 if readme == "CONTRIBUTING.md" else 0)
    for folder in folders:
        assert (ROOT / folder).is_dir()
    for linked in re.findall(r"\]\(([\w./-]+)\)", text):
        assert ((ROOT / readme).parent / linked).exists(), linked


def test_the_guards_figures_are_those_of_the_results() -> None:
    found = Bench.parse(read_json(GUARD_RESULTS), GUARD_RESULTS.name)
    for readme in RESULTS:
        assert "\n".join(["```", *found.lines, "```"]) in text_of(readme), readme
    # And in words: shares, and the time that it takes.
    *shares, ms = map(float, re.findall(r"\d+\.\d+", found.lines[-1]))
    for readme in READMES:
        text = text_of(readme)
        assert f"\n{found.lines[-1]}\n" in text, readme
        assert [f"{100 * share:.2g} %" in text for share in shares] == [True] * 3, readme
        assert re.search(rf"\b{ms:.0f}\s(?:ms|毫秒)", text), readme


def test_the_guards_results_are_of_what_is_there() -> None:
    """All that was measured is there unchanged, and the guard does the same with the messages that were drawn."""
    found = Bench.parse(read_json(GUARD_RESULTS), GUARD_RESULTS.name)
    assert found.sources == sources(), "the guard or its messages changed: `make bench-guard`"
    guard = read_guard()
    texts = {message.id: message.text for folder in (SAFETY_DIR, *HELD_OUT) for message in read_messages(folder)}
    assert len(found.drawn) == DRAWN
    others = [name for name, action in found.drawn.items() if act(guard, texts[name]) != action]
    # Processors round differently, and a message on the very level falls to either side of it.
    assert len(others) <= DRAWN // 100, f"the guard changed: `make bench-guard` {others}"


def test_the_training_figures_are_those_of_the_results(tmp_path: Path) -> None:
    results = ROOT / "tests" / "results" / "bench-train-cpu.json"
    found = read_bench(results)
    assert found.models.keys() == {"q06", "small"}
    for readme in RESULTS:
        assert "\n".join(["```", *found.lines(), "```"]) in text_of(readme), readme
    ratio = f"{found.models['q06'].by_the_clock:.2f}"
    for readme, words in zip(READMES, (f" {ratio} times LLaMA-Factory's", f"LLaMA-Factory 的 {ratio} 倍"), strict=True):
        assert f"\n{found.lines()[-1]}\n" in text_of(readme), readme
        assert words in text_of(readme), readme
    # The file is one that the command writes.
    write_bench(tmp_path / "results.json", found)
    assert (tmp_path / "results.json").read_bytes() == results.read_bytes()
