"""What a run measures of its machine: all of it where it can be had, and never a reason to fail."""

import pynvml
import pytest
import torch

from finetune.machine_use import MachineUse, gpu_percent


def test_a_machine_without_a_gpu_tells_nothing_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = MachineUse().now()
    assert found.keys() == {"memory", "memory_free", "cpu_percent"}
    assert found["memory"] > 1e6
    assert found["memory_free"] > 1e6
    assert 0 <= found["cpu_percent"] <= 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the driver answers")
def test_asked_for_its_use_where_there_is_no_driver_it_does_not_fail() -> None:
    assert gpu_percent() == {}


def test_a_slice_of_a_gpu_has_no_use_and_a_whole_one_has() -> None:
    def slice_of_one() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    assert gpu_percent(slice_of_one) == {}
    assert gpu_percent(lambda: 87) == {"gpu_percent": 87.0}
