"""data/runs.py: a reader of a run folder never meets half a file."""

from pathlib import Path

import pytest

from data.runs import Status, append_metrics, newest_finished, now, read_metrics, read_status, write_status, write_whole
from data.strict import BadInput


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_status(tmp_path, Status(state="running", step=3, steps=9, message="损失 1.2", pid=7))
    found = read_status(tmp_path)
    assert (found.state, found.step, found.steps, found.message, found.pid) == ("running", 3, 9, "损失 1.2", 7)
    assert found.updated <= now()
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_damaged_status_is_told(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "flying"}')
    with pytest.raises(BadInput, match='"state"'):
        read_status(tmp_path)


def test_a_line_that_is_still_being_written_is_not_one(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path)) == []
    append_metrics(tmp_path, {"step": 1, "loss": 2.5})
    append_metrics(tmp_path, {"step": 2, "loss": 2.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_loss_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append_metrics(tmp_path, {"loss": float("nan")})


def test_the_newest_finished_run_is_the_one_that_ended_last(tmp_path: Path) -> None:
    for name, state in (("b", "done"), ("a", "done"), ("c", "failed")):
        (tmp_path / name).mkdir()
        write_status(tmp_path / name, Status.model_validate({"state": state}))
        later = read_status(tmp_path / name).updated
        while now() == later:
            pass
    assert newest_finished(tmp_path) == tmp_path / "a"


def test_no_finished_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make train"):
        newest_finished(tmp_path / "runs")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.txt", "half \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
