"""A run that people can live with: killed, stopped, resumed, out of room, not a number, and told beforehand."""

import io
import json
import logging
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env
from rich.cells import cell_len
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from data.contract import open_sealed, read_contract, sha256
from data.queue import Request, write_request
from data.runs import (
    ADAPTER,
    CHECKPOINTS,
    LOG_FILE,
    LOSS_FILE,
    METRICS_FILE,
    MODEL,
    Status,
    read_metrics,
    read_record,
    read_status,
    write_record,
    write_status,
)
from data.strict import BadInput
from finetune.base import find_base
from finetune.checkpoints import FILES_FILE, checkpoints_in, damage
from finetune.fit import Processes, _arguments, _load_model
from finetune.merge import merge
from finetune.progress import progress
from finetune.recipe import read_recipe
from finetune.run_folder import logged
from finetune.train import prepare, train
from tests.commands import Command, Done, finetune
from tests.demo import ROOT, free_port
from tests.finetune.small_runs import curve, make_data, make_recipe
from tests.small_models import make_base

WEIGHTS = "adapter_model.safetensors"


class Place:
    """A base, a data set and a recipe; `words` are those of a run on them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.base = make_base(folder / "base")
        self.data = make_data(folder / "data")
        self.recipe = make_recipe(folder / "small.yaml")

    def words(self, run: Path, *more: str) -> list[str]:
        given = ["train", str(self.recipe), *more, "--base", str(self.base), "--data-dir", str(self.data)]
        return [*given, "--run", str(run)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def whole(place: Place) -> Path:
    """A run that nothing disturbed."""
    run = place.folder / "whole"
    done = finetune(place.folder / "whole-out", *place.words(run))
    assert done.code == 0, done.err
    return run


@pytest.fixture
def run(place: Place, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = place.folder / "runs" / request.node.name
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def same(run: Path, whole: Path) -> None:
    """The same curve and the same adapter, bit for bit."""
    assert curve(run) == curve(whole)
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(whole / ADAPTER / WEIGHTS)
    assert read_status(run).state == "done"


def one_sentence(done: Done, *parts: str) -> None:
    """Exit code 2, one line on standard error besides the plan and the steps, no traceback."""
    lines = [line for line in done.err.splitlines() if not re.match(r"plan: |step \d+ of|going on ", line)]
    assert (done.code, len(lines), done.out) == (2, 1, ""), done.err
    for part in parts:
        assert part in lines[0]


def test_a_run_folder_holds_everything(place: Place, whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "recipe.yaml", "run.json", "status.json", METRICS_FILE, LOG_FILE, LOSS_FILE, ADAPTER, CHECKPOINTS, ".lock",
    }  # fmt: skip
    assert {path.name for path in (whole / ADAPTER).iterdir()} == {"adapter_config.json", WEIGHTS, FILES_FILE}
    assert (whole / LOSS_FILE).read_bytes().startswith(b"\x89PNG")
    record = read_record(whole)
    assert record.data_files == {"small.json": sha256(place.data / "small.json")}
    assert record.base_files == {name: sha256(place.base / name) for name in ("model.safetensors", "tokenizer.json")}
    assert record.versions["torch"] == torch.__version__
    assert len(record.commit.removesuffix("-dirty")) == 40
    # Every token of both epochs was seen and counted.
    last = [line for line in read_metrics(whole) if "loss" in line][-1]
    assert last["num_input_tokens_seen"] == 2 * record.tokens
    assert last["step"] == record.steps == read_status(whole).step
    told = EventAccumulator(str(whole)).Reload()
    assert [event.step for event in told.Scalars("loss")] == [
        line["step"] for line in read_metrics(whole) if "loss" in line
    ]


def test_only_our_lines_are_printed(place: Place, whole: Path) -> None:
    told = (place.folder / "whole-out" / "stderr").read_text().splitlines()
    assert len(told) > 8
    assert all(line.startswith(("plan: ", "step ")) for line in told), told
    assert any("tokens/s" in line for line in told)
    assert any("memory about" in line and "free" in line for line in told)
    in_log = [line.split(" INFO ", 1)[1] for line in (whole / LOG_FILE).read_text().splitlines() if " INFO " in line]
    assert in_log == told
    assert "good-by" not in (whole / LOG_FILE).read_text()


def seen_in_a_terminal(folder: Path, *words: str) -> list[str]:
    """What a command draws into a terminal of 24 lines and 80 columns, piece by piece, without colours."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    command = Command(folder, *words, terminal=os.ttyname(its), environment={"TERM": "xterm"})
    drawn = b""
    while select.select([ours], [], [], 0 if (ended := not command.process.is_alive()) else 0.1)[0] or not ended:
        if select.select([ours], [], [], 0)[0]:
            drawn += os.read(ours, 65536)
    os.close(its)
    os.close(ours)
    assert command.wait().code == 0, drawn.decode()
    # A bar begins by clearing the line that it stood on.
    pieces = re.split(r"[\r\n]|\x1b\[2K", drawn.decode())
    return [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", piece).rstrip() for piece in pieces]


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left(place: Place, run: Path) -> None:
    drawn = seen_in_a_terminal(run.with_suffix(".1"), *place.words(run))
    bars = [piece for piece in drawn if piece.startswith("training ")]
    assert max(map(cell_len, bars)) <= 80
    # Nothing is cut off: the speed stands at its end.
    told = re.compile(r"training [━╸╺ ]{16} +\d+% (\d)/6 (\d+:\d\d|-:--|--:--) +loss \d\.\d{3} · [\d,]+ tokens/s")
    with_loss = [told.fullmatch(piece) for piece in bars if "loss" in piece]
    assert all(with_loss), bars
    assert {"3", "6"} <= {match[1] for match in with_loss if match}
    assert any(match[2].startswith("00:0") for match in with_loss if match), bars
    # The steps stand above it, as they do without a terminal.
    assert any(piece.startswith("step 3 of 6: loss ") for piece in drawn)


def test_a_checkpoint_holds_what_is_needed(whole: Path) -> None:
    found = checkpoints_in(whole / CHECKPOINTS)
    assert len(found) == 2
    for _, path in found:
        assert damage(path) is None
        assert {file.name for file in path.iterdir()} == {
            "adapter_config.json", WEIGHTS, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
            "loss.json", FILES_FILE,
        }  # fmt: skip


def test_killed_at_any_moment_it_ends_the_same(place: Place, whole: Path, run: Path) -> None:
    words = place.words(run)
    checkpoints = run / CHECKPOINTS
    # In the middle of writing a checkpoint.
    command = Command(run.with_suffix(".1"), *words)
    command.wait_for((checkpoints / "checkpoint-4").is_dir)
    command.send(signal.SIGKILL)
    assert Command.wait(command).code == -signal.SIGKILL
    assert read_status(run).state == "running"
    # Somewhere behind it.
    command = Command(run.with_suffix(".2"), *words, "--resume")
    command.wait_for(lambda: any(line["step"] == 6 for line in read_metrics(run)))
    command.send(signal.SIGKILL)
    assert Command.wait(command).code == -signal.SIGKILL
    # The newest whole checkpoint has a bad bit: the one before it is taken.
    newest = next(path for _, path in checkpoints_in(checkpoints) if damage(path) is None)
    content = bytearray((newest / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(content)
    done = finetune(run.with_suffix(".3"), *words, "--resume")
    assert done.code == 0, done.err
    assert f"{newest} has a damaged optimizer.pt: passed over" in done.err
    same(run, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_saves_and_goes_on_later(
    place: Place, whole: Path, run: Path, number: signal.Signals, code: int
) -> None:
    command = Command(run.with_suffix(".1"), *place.words(run))
    command.wait_for(lambda: any(line["step"] == 3 for line in read_metrics(run)))
    command.send(number)
    if number == signal.SIGHUP:
        # From the shell, and from the system when the shell has ended.
        command.send(number)
    done = command.wait()
    assert done.code == code, done.err
    assert done.err.splitlines()[-1] == f"{run}: stopped; the same command with --resume --run {run} goes on."
    status = read_status(run)
    assert (status.state, status.pid) == ("stopped", None)
    assert checkpoints_in(run / CHECKPOINTS)[0][0] == status.step >= 3
    # As if it had been killed when it had told of a later step.
    write_status(run, status.model_copy(update={"step": status.step + 1}))
    kept = finetune(run.with_suffix(".kept"), "keep", str(run))
    assert kept.code == 0, kept.err
    assert read_status(run).step == status.step
    checkpoint = run / CHECKPOINTS / f"checkpoint-{status.step}"
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(checkpoint / WEIGHTS)
    done = finetune(run.with_suffix(".2"), *place.words(run, "--resume"))
    assert done.code == 0, done.err
    same(run, whole)


def test_a_terminal_that_is_gone_ends_nothing_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with io.TextIOWrapper(os.fdopen(its, "wb", buffering=0), write_through=True) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with logged(tmp_path):
            with progress("training", 2) as advance:
                advance(1, "drawn")
                assert b"drawn" in os.read(ours, 65536)
                os.close(ours)
                advance(2, "not drawn")
            logging.getLogger("finetune").info("saved")
        with pytest.raises(OSError, match="Input/output error"):
            terminal.write("\n")
    assert (tmp_path / LOG_FILE).read_text().endswith("saved\n")


def test_nothing_is_kept_of_nothing(place: Place, whole: Path, tmp_path: Path) -> None:
    one_sentence(finetune(tmp_path / "out", "keep", str(tmp_path)), "no run that has begun")
    one_sentence(finetune(tmp_path / "out", "keep", str(whole)), "has finished")


def test_a_folder_that_waits_in_the_queue_is_trained_in(place: Place, whole: Path, run: Path) -> None:
    run.mkdir(parents=True)
    write_request(run, Request(verb="train", words=tuple(place.words(run)[1:])))
    write_status(run, Status(state="running", message="begins", pid=1))
    done = finetune(run.with_suffix(".1"), *place.words(run))
    assert done.code == 0, done.err
    same(run, whole)
    line = [line for line in read_metrics(run) if "loss" in line][-1]
    assert line["seconds_left"] == 0
    assert line["memory"] > 1e8
    assert 0 < line["share_of_peak"] < 1


def test_a_run_killed_before_its_adapter_is_written_needs_no_step_more(place: Place, whole: Path, run: Path) -> None:
    shutil.copytree(whole, run)
    shutil.rmtree(run / ADAPTER)
    (run / "status.json").write_text(json.dumps({"state": "running", "step": 5, "steps": 9}))
    done = finetune(run.with_suffix(".1"), *place.words(run, "--resume"))
    assert done.code == 0, done.err
    assert "loss" not in done.err.split("going on from", 1)[1]
    same(run, whole)


def test_another_process_needs_no_step_more_either(
    place: Place, whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, run)
    shutil.rmtree(run / ADAPTER)

    def wait(*_: Any) -> None:
        raise AssertionError("it waits for process 0 for ever")

    monkeypatch.setattr("finetune.train.fit", wait)
    base = find_base(str(place.base))
    given = read_recipe(str(place.recipe)), read_contract(base_model=base.name), base, run, place.data
    train(*given, resume=True, processes=Processes(2, 1))
    with pytest.raises(AssertionError, match="for ever"):
        train(*given, processes=Processes(2, 1))


def test_one_process_trains_on_one_gpu_of_many(place: Place, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"is_available": True, "device_count": 2, "set_device": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    try:
        arguments = _arguments(read_recipe(str(place.recipe)), run, validate=False, sharded=False)
        # TRL refuses more than one.
        assert (str(arguments.device), arguments.n_gpu) == ("cuda:0", 1)
    finally:
        # accelerate remembers the device for whoever comes next.
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_quantised_base_computes_in_the_recipes_dtype_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    # bitsandbytes needs a GPU.
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda _, **given: given)
    given = _load_model(read_recipe(str(place.recipe), ["method=qlora", f"bf16={bf16}"]), find_base(str(place.base)))
    assert (given["dtype"], given["quantization_config"].bnb_4bit_compute_dtype) == (dtype, dtype)


def test_a_finished_run_is_not_trained_on(place: Place, whole: Path) -> None:
    before = sha256(whole / ADAPTER / WEIGHTS)
    one_sentence(finetune(place.folder / "out", *place.words(whole)), "holds a run already (done)")
    one_sentence(finetune(place.folder / "out", *place.words(whole, "--resume")), "nothing to resume")
    assert sha256(whole / ADAPTER / WEIGHTS) == before


def test_resuming_with_other_data_is_refused(place: Place, whole: Path, run: Path) -> None:
    shutil.copytree(whole, run)
    (run / "status.json").write_text(json.dumps({"state": "stopped"}))
    other = make_data(place.folder / "other")
    (other / "small.json").write_text((other / "small.json").read_text().replace("small-03", "small-xx"))
    words = place.words(run, "--resume")
    words[words.index(str(place.data))] = str(other)
    one_sentence(finetune(place.folder / "out", *words), "started with another data")


def test_resuming_with_another_definition_of_the_set_is_refused(place: Place, whole: Path, run: Path) -> None:
    shutil.copytree(whole, run)
    write_status(run, Status(state="stopped"))
    other = place.folder / "redefined"
    shutil.copytree(place.data, other)
    index = json.loads((other / "dataset_info.json").read_text())
    index["small"]["num_samples"] = 12
    (other / "dataset_info.json").write_text(json.dumps(index))
    words = place.words(run, "--resume")
    words[words.index(str(place.data))] = str(other)
    done = finetune(place.folder / "out", *words)
    one_sentence(done, "started with another dataset_info.json or tokenizer; bring that back")


def test_two_files_of_one_name_are_both_recorded(place: Place, tmp_path: Path) -> None:
    index = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        records = json.loads((place.data / "small.json").read_text())[:: 1 if name == "a" else -1]
        (tmp_path / name / "train.json").write_text(json.dumps(records))
        index[name] = {"file_name": f"{name}/train.json", "formatting": "sharegpt"}
    (tmp_path / "dataset_info.json").write_text(json.dumps(index))
    recipe = read_recipe(str(place.recipe), ["dataset=a,b"])
    base = find_base(str(place.base))
    record = prepare(recipe, read_contract(base_model=base.name), base, tmp_path, skip_bad=False).record
    files = {f"{name}/train.json": sha256(tmp_path / name / "train.json") for name in ("a", "b")}
    assert record.data_files == files
    assert len(set(files.values())) == 2


def test_a_first_exchange_that_does_not_fit_is_left_out_where_told_and_counted(place: Place, tmp_path: Path) -> None:
    records = json.loads((place.data / "small.json").read_text())
    records[3]["conversations"][0]["value"] *= 100
    data, base = make_data(tmp_path / "data", records), find_base(str(place.base))
    given = read_recipe(str(place.recipe)), read_contract(base_model=base.name), base, data
    with pytest.raises(BadInput, match=r"small\.json record 3: its first exchange takes \d+ tokens"):
        prepare(*given, skip_bad=False)
    prepared = prepare(*given, skip_bad=True)
    record = prepared.record
    assert (record.skipped, record.conversations + record.validation) == (1, 19)
    assert len(prepared.names) == len(prepared.train) == record.conversations
    assert "small-03" not in prepared.names


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"base_files": {"model.safetensors": "0" * 64}}, "another base"),
        ({"tokens": 7}, "another dataset_info.json or tokenizer"),
        ({"contract": "0" * 64}, "another contract"),
        ({"processes": 2}, "another number of processes"),
    ],
)
def test_resuming_a_run_of_something_else_is_refused(
    place: Place, whole: Path, run: Path, changes: dict[str, Any], what: str
) -> None:
    shutil.copytree(whole, run)
    write_status(run, Status(state="stopped"))
    write_record(run, read_record(run).model_copy(update=changes))
    one_sentence(finetune(place.folder / "out", *place.words(run, "--resume")), f"was started with {what};")


def test_a_full_disk_is_one_sentence_and_leaves_the_last_good_checkpoint(place: Place, whole: Path, run: Path) -> None:
    # Files may grow to so much: the first checkpoints fit, then the disk is as good as full.
    words = place.words(run)
    first = Command(run.with_suffix(".1"), *words)
    first.wait_for((run / CHECKPOINTS / "checkpoint-2" / FILES_FILE).is_file)
    first.send(signal.SIGTERM)
    first.wait()
    good = checkpoints_in(run / CHECKPOINTS)[0][1]
    largest = (good / "optimizer.pt").stat().st_size
    done = finetune(run.with_suffix(".2"), *words, "--resume", limit=largest // 2)
    one_sentence(done, "the disk is full", "--resume", f"{good.name} is whole")
    assert read_status(run).state == "failed"
    assert next(path for _, path in checkpoints_in(run / CHECKPOINTS) if damage(path) is None) == good
    assert all(damage(path) is None for _, path in checkpoints_in(run / CHECKPOINTS))
    done = finetune(run.with_suffix(".3"), *words, "--resume")
    assert done.code == 0, done.err
    same(run, whole)


def words_of_a_broken_base(place: Place, folder: Path, *more: str) -> list[str]:
    """A training on a base in which one word is broken that only the record small-01 has."""
    base = make_base(folder / "base")
    from transformers import AutoTokenizer

    word = AutoTokenizer.from_pretrained(base).encode("~")[0]
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["model.embed_tokens.weight"][word] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    records = json.loads((place.data / "small.json").read_text())
    for record in records[:3]:
        record["conversations"][0]["value"] += "~" if record is records[1] else "."
    return [
        "train", str(place.recipe), "val_size=0.0", "num_train_epochs=1", "save_steps=1", *more,
        "--base", str(base), "--data-dir", str(make_data(folder / "data", records)),
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "packing"), [("fast", "true"), ("fast", "false"), ("trl", "false")])
def test_a_loss_that_is_no_number_stops_with_its_step_and_records(
    place: Place, run: Path, tmp_path: Path, step: str, packing: str
) -> None:
    words = words_of_a_broken_base(place, tmp_path, f"packing={packing}", f"training_step={step}")
    done = finetune(tmp_path / "out", *words, "--run", str(run))
    one_sentence(done, "step ", "the loss is not a finite number")
    (named,) = re.findall(r"in the batch of (.*); look at these records", done.err)
    # A packed row holds several, and nobody knows which of them.
    assert "small-01" in named.split(", ")
    assert (len(named.split(", ")) == 1) == (packing == "false")
    assert read_status(run).state == "failed"
    for _, path in checkpoints_in(run / CHECKPOINTS):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path / WEIGHTS).values())


def test_the_plan_alone_makes_nothing(place: Place, run: Path) -> None:
    done = finetune(place.folder / "out", *place.words(run, "--plan"))
    assert done.code == 0, done.err
    assert not run.exists()
    assert "steps in all" in done.out
    assert "memory about" in done.out


def test_the_plan_for_a_program(place: Place, run: Path) -> None:
    done = finetune(place.folder / "out", *place.words(run, "--plan", "--json", "warmup_steps=100"))
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert not run.exists()
    assert plan["plan"]["steps"] > 0
    assert plan["seconds"] > 0
    assert plan["machine"]["kind"] in ("cpu", "cuda")
    assert any("never reaches its full value" in remark for remark in plan["remarks"])


def test_every_weight_can_be_trained_and_sealed(place: Place, run: Path, tmp_path: Path) -> None:
    done = finetune(tmp_path / "out", *place.words(run, "method=full", "bf16=true", "max_steps=3"))
    assert done.code == 0, done.err
    assert "TRL's own step, because all parameters are trained" in done.err
    base, trained = load_file(place.base / "model.safetensors"), load_file(run / MODEL / "model.safetensors")
    exact = load_file(run / CHECKPOINTS / "checkpoint-3" / "model.safetensors")
    assert trained.keys() == base.keys()
    for name, weight in trained.items():
        # Trained in fp32, kept in the base's dtype.
        assert exact[name].dtype == torch.float32
        assert torch.equal(weight, exact[name].to(torch.bfloat16)), name
    assert not all(torch.equal(weight, base[name]) for name, weight in trained.items())
    merge(run, tmp_path / "model")
    sealed = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(sealed[name], weight) for name, weight in trained.items())
    assert open_sealed(tmp_path / "model").provenance["commit"] == read_record(run).commit


# --multi_gpu means torchrun, and the processes find that there are only CPUs; --cpu would want MPI.
DDP = ("--multi_gpu",)
FSDP2 = ("--use_fsdp", "--fsdp_version", "2")


def launching(kind: tuple[str, ...]) -> list[str]:
    """How `accelerate launch` is told of two processes on a CPU."""
    return [
        *kind, "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(free_port()), "-m", "finetune",
    ]  # fmt: skip


def launched(kind: tuple[str, ...], *words: str) -> tuple[int, str]:
    """`accelerate launch`: its exit code, and what both processes told."""
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launching(kind), *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    return done.returncode, done.stderr


def forked(kind: tuple[str, ...], folder: Path, *words: str) -> tuple[int, str]:
    """The same processes with the variables that the launcher gives them, and without its importing torch three times."""
    told = launch_command_parser().parse_args(launching(kind))
    given = {
        name: value for name, value in prepare_multi_gpu_env(told).items() if name.startswith(("ACCELERATE_", "FSDP_"))
    }
    given |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(told.main_process_port)}
    both = [
        Command(folder / rank, *words, environment={**given, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]
    ended = [each.wait() for each in both]
    return max(abs(each.code) for each in ended), "".join(each.err for each in ended)


@pytest.mark.parametrize(
    ("step", "kind"), [("fast", DDP), ("trl", DDP), ("fast", FSDP2)], ids=["fast", "trl", "fast-fsdp2"]
)
def test_two_processes_give_the_curve_of_one(place: Place, tmp_path: Path, step: str, kind: tuple[str, ...]) -> None:
    """The same global batch, fp32, nothing random: DDP or FSDP2 with gloo against one process.

    Sixteen rows, four a step: a last step that is not full is filled up by accelerate with rows from the beginning.
    """
    # The one that is resumed is so between two lines, with a part of the second's loss.
    logged = f"logging_steps={4 if kind == FSDP2 else 1}"
    words = [
        "val_size=0.0", "packing=false", "max_samples=16",
        f"training_step={step}", "neftune_noise_alpha=null", "lora_dropout=0.0", logged, "max_steps=4",
    ]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    assert finetune(tmp_path / "told", *place.words(one, *words, "gradient_accumulation_steps=4")).code == 0
    again = place.words(two, *words, "gradient_accumulation_steps=2")
    code, told = launched(kind, *again) if kind == FSDP2 else forked(kind, tmp_path / "first", *again)
    assert code == 0, told[-3000:]
    assert told.count("step 4 of 4: loss") == 1
    assert told.count("TRL's own step, because the model is spread over processes (FSDP)") == (kind == FSDP2)
    assert read_record(two).processes == 2
    expected = curve(one)
    nearly_same(curve(two), expected)
    last = two / CHECKPOINTS / "checkpoint-4"
    assert {path.name for path in last.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    # FSDP2's own files.
    assert (last / "pytorch_model_fsdp.bin").is_file() == (kind == FSDP2)
    assert damage(last) is None
    trained = load_file(two / ADAPTER / WEIGHTS)
    for name, weight in load_file(one / ADAPTER / WEIGHTS).items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-3, atol=1e-4)
    if kind == FSDP2:
        # As if it had been killed before its last checkpoint.
        shutil.rmtree(last)
        shutil.rmtree(two / ADAPTER)
        write_status(two, Status(state="stopped"))
        code, told = forked(kind, tmp_path / "again", *again, "--resume")
        assert code == 0, told[-3000:]
        assert "going on from checkpoint-2" in told
        nearly_same(curve(two), expected)
        assert (two / ADAPTER / WEIGHTS).is_file()


def test_a_loss_that_is_no_number_in_one_process_ends_both_with_its_records(place: Place, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # With the recipe's seed process 1 gets the record.
    words = words_of_a_broken_base(place, tmp_path, "packing=false", "gradient_accumulation_steps=1")
    code, told = launched(DDP, *words, "--run", str(run))
    assert code != 0
    status = read_status(run)
    assert status.state == "failed"
    assert re.fullmatch(
        r"step \d+: the loss is not a finite number, in the batch of small-01; look at .*", status.message
    )
    # The process that writes no status says it as well.
    assert f"process 1: {status.message}" in told


def nearly_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Loss and gradient within what the order of a sum makes."""
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for before, after in zip(expected, found, strict=True):
        for name in ("loss", "grad_norm"):
            assert after[name] == pytest.approx(before[name], abs=2e-5), (name, before["step"])
        assert after["num_input_tokens_seen"] == before["num_input_tokens_seen"]
