"""The loop that all algorithms share: how often a run is validated, and what of it is on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from resip.errors import ResipError
from resip_training import runs
from resip_training.runs import Budget
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor


class Counter:
    """An algorithm that only counts its steps, by four at a time."""

    unit = "updates"
    samples_per_step = 1
    validations = 5

    def __init__(self) -> None:
        self.step = 0
        self.validated_at: list[int] = []

    def train_step(self, progress: float) -> dict[str, float]:
        self.step += 4
        return {"progress": progress}

    def validate(self) -> dict[str, float]:
        self.validated_at.append(self.step)
        return {"step": float(self.step)}

    def weights(self) -> dict[str, Tensor]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self.step)}

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        self.step = step


def count(out: Path, budget: Budget) -> Counter:
    counter = Counter()
    runs.run(out, {"algorithm": "counting", "settings": {}, "contract": {}}, lambda _: counter, budget)
    return counter


def test_a_run_is_validated_as_often_as_it_says_and_all_of_it_is_logged(tmp_path: Path):
    counter = count(tmp_path, Budget(steps=40))
    assert counter.validated_at == [8, 16, 24, 32, 40]
    logged = EventAccumulator(str(tmp_path / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Scalars("validation/step")] == counter.validated_at


def test_two_commands_do_not_train_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def train_step(counter: Counter, progress: float) -> dict[str, float]:
        """Be there while another command starts."""
        monkeypatch.undo()
        with pytest.raises(ResipError, match="another process trains there"):
            count(tmp_path, Budget(steps=4))
        return counter.train_step(progress)

    monkeypatch.setattr(Counter, "train_step", train_step)
    assert count(tmp_path, Budget(steps=8)).step == 8
    assert count(tmp_path, Budget(steps=12)).step == 12  # it is free again


@pytest.mark.parametrize(("text", "message"), [("{", "is damaged"), ("[]", "not the configuration of a training run")])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / runs.CONFIG_FILE).write_text(text)
    with pytest.raises(ResipError, match=message):
        runs.read_config(tmp_path)
    (tmp_path / runs.CONFIG_FILE).write_text(json.dumps({"algorithm": "bc", "settings": {}, "contract": {}}))
    assert runs.read_config(tmp_path)["algorithm"] == "bc"


def test_a_run_whose_start_failed_may_be_begun_anew_with_other_settings(tmp_path: Path):
    def refuse(_: object) -> Counter:
        raise ResipError("too little memory")

    with pytest.raises(ResipError, match="too little memory"):
        runs.run(tmp_path, {"algorithm": "counting", "settings": {"n": 2}, "contract": {}}, refuse, Budget(steps=4))
    count(tmp_path, Budget(steps=4))
    assert runs.read_config(tmp_path)["settings"] == {}


def test_a_run_that_has_weights_is_not_begun_anew_with_other_settings(tmp_path: Path):
    count(tmp_path, Budget(steps=4))
    with pytest.raises(ResipError, match="holds a run with other settings"):
        runs.check_or_write_config(tmp_path, {"algorithm": "counting", "settings": {"n": 2}, "contract": {}})
    assert runs.read_config(tmp_path)["settings"] == {}


def test_training_multiplies_in_float32_whatever_units_the_cpu_has():
    runs.multiply_fast()
    matrix = torch.full((256, 256), 1.0 + 2.0**-12)
    assert torch.equal(matrix @ torch.eye(256), matrix)
