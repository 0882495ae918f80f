"""A run folder's files: replaced whole, read while they are written, and the newest run found."""

import time
from pathlib import Path

import pytest

from data.runs import (
    METRICS_FILE,
    RUN_FILE,
    STATUS_FILE,
    Status,
    append_metrics,
    cut_metrics,
    newest_finished,
    read_metrics,
    read_status,
    write_status,
    write_whole,
)
from data.strict import BadInput


def test_a_line_that_is_still_being_written_is_not_one_yet(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path)) == []
    append_metrics(tmp_path, {"step": 1, "loss": 0.1 + 0.2})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 2, "lo')
    assert list(read_metrics(tmp_path)) == [{"step": 1, "loss": 0.1 + 0.2}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_metrics(tmp_path, {"loss": float("nan")})


def test_a_resumed_run_forgets_what_it_will_write_again(tmp_path: Path) -> None:
    for step in (2, 4, 4, 6):
        append_metrics(tmp_path, {"step": step})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"st')
    cut_metrics(tmp_path, 4)
    append_metrics(tmp_path, {"step": 5})
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 4, 5]


def test_the_newest_finished_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no finished run"):
        newest_finished(tmp_path / "none")
    for name, state in (("b", "done"), ("a", "done"), ("c", "running"), ("merged", "done")):
        (tmp_path / name).mkdir()
        if name != "merged":
            (tmp_path / name / RUN_FILE).touch()
        # The times are told to the millisecond.
        time.sleep(0.003)
        write_status(tmp_path / name, Status.model_validate({"state": state, "step": 3}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / RUN_FILE).touch()
    assert newest_finished(tmp_path).name == "a"
    (tmp_path / "damaged" / STATUS_FILE).write_text('{"state": "do')
    assert newest_finished(tmp_path).name == "a"
    assert read_status(tmp_path / "c").step == 3
    assert read_status(tmp_path / "c").updated.endswith("+00:00")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file", "half a character: \ud800")
    assert (tmp_path / "file").read_text() == "old"
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "nowhere" / "file", "new")
