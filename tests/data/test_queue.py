"""The queue's files: a request read back as it was written, a want, and every folder listed, the damaged ones too."""

import os
import shlex
import time
from pathlib import Path

import pytest

from data.queue import (
    JOB_LOG,
    REQUEST_FILE,
    WORKER_FILE,
    WORKER_PATIENCE_S,
    Request,
    disk_used,
    is_worker_alive,
    jobs,
    log_of,
    new_run,
    read_request,
    read_want,
    write_note,
    write_request,
    write_want,
)
from data.runs import LOG_FILE, STATUS_FILE, Status, read_status, write_status
from data.strict import BadInput


def test_a_request_is_read_back_and_queued(tmp_path: Path) -> None:
    run = new_run(tmp_path, "mindpal")
    write_request(run, Request(verb="train", words=("mindpal", "--run", str(run)), note="第一次"))
    found = read_request(run)
    assert (found.verb, found.words, found.note) == ("train", ("mindpal", "--run", str(run)), "第一次")
    assert found.created.endswith("+00:00")
    assert read_status(run).state == "queued"
    write_note(run, "again")
    assert read_request(run) == found.model_copy(update={"note": "again"})


def test_the_command_gives_a_shell_the_same_words() -> None:
    words = ("my recipe.yaml", "dataset=[a, b]", "--note", "$(id); 'x'")
    command = Request(verb="train", words=words).command
    assert shlex.split(command) == ["python", "-m", "finetune", "train", *words]


def test_only_known_verbs_are_requests(tmp_path: Path) -> None:
    (tmp_path / REQUEST_FILE).write_text('{"verb": "rm", "words": ["-rf"]}')
    with pytest.raises(BadInput, match=r'"verb" is .rm.'):
        read_request(tmp_path)


def test_new_folders_are_apart_sorted_and_safe(tmp_path: Path) -> None:
    made = [new_run(tmp_path, "../Qwen 三/$x") for _ in range(20)]
    assert len(set(made)) == 20
    for run in made:
        assert run.parent == tmp_path
        assert run.is_dir()
        assert shlex.quote(run.name) == run.name


def test_what_found_no_room_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / STATUS_FILE).mkdir()
    with pytest.raises(OSError, match="status"):
        write_request(tmp_path, Request(verb="chat"))
    assert not (tmp_path / REQUEST_FILE).exists()


def test_a_want_is_to_run_until_somebody_says_otherwise(tmp_path: Path) -> None:
    assert read_want(tmp_path) == "run"
    write_want(tmp_path, "pause")
    assert read_want(tmp_path) == "pause"


def test_every_folder_is_listed_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    assert jobs(tmp_path / "none") == []
    for name in ("second", "first", "terminal", "damaged", "making"):
        (tmp_path / name).mkdir()
    write_request(tmp_path / "second", Request(verb="merge", created="2026-01-02T00:00:00.000+00:00"))
    write_request(tmp_path / "first", Request(verb="chat", created="2026-01-01T00:00:00.000+00:00"))
    write_status(tmp_path / "terminal", Status(state="done"))
    (tmp_path / "damaged" / REQUEST_FILE).write_text('{"verb": "tra')
    found = {job.run.name: job for job in jobs(tmp_path)}
    assert list(found)[-3:] == ["first", "second", "terminal"]
    assert "making" not in found
    assert "not valid JSON" in found["damaged"].wrong
    assert found["terminal"].request is None
    assert {name for name, job in found.items() if job.wrong} == {"damaged"}


def test_disk_and_log(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights").write_bytes(b"x" * 1000)
    (tmp_path / LOG_FILE).write_text("one")
    assert disk_used(tmp_path) == 1003
    assert log_of(tmp_path).name == LOG_FILE
    (tmp_path / JOB_LOG).write_text("two")
    assert log_of(tmp_path).name == JOB_LOG


def test_a_worker_that_touches_nothing_is_dead(tmp_path: Path) -> None:
    assert not is_worker_alive(tmp_path)
    (tmp_path / WORKER_FILE).touch()
    assert is_worker_alive(tmp_path)
    long_ago = time.time() - 2 * WORKER_PATIENCE_S
    os.utime(tmp_path / WORKER_FILE, (long_ago, long_ago))
    assert not is_worker_alive(tmp_path)
