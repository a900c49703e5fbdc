"""Batches of frames: each step as often as it should be, from memory or read meanwhile, and in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import write_demos, write_real_demos
from resip.errors import ResipError
from resip_training.data.frames import FrameLoader, FrameReader, Frames, Sampling
from resip_training.data.mixture import Mixture
from resip_training.models.encoder import View, ViewConfig

VIEWS = {
    "front": View(ViewConfig(top=80, left=32, height=136, width=264, reduction=4)),
    "wrist": View(ViewConfig(top=0, left=0, height=240, width=320, reduction=8, margin=2)),
}
BATCH = 8


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    """120 simulated steps and 40 real ones."""
    folder = tmp_path_factory.mktemp("mixture")
    sim = write_demos(folder / "sim", n_episodes=6, n_steps=20)
    real = write_real_demos(folder / "real", n_episodes=2, n_steps=20)
    return Mixture([sim.path], [real.path])


@pytest.fixture(scope="module")
def reader(mixture: Mixture) -> FrameReader:
    return FrameReader(mixture, VIEWS)


def gb(reader: FrameReader, steps: int) -> float:
    """Memory for so many steps."""
    return steps * reader.bytes_per_step / 1e9


def loader(
    reader: FrameReader,
    mixture: Mixture,
    memory_steps: int,
    rows: np.ndarray | None = None,
    real_share: float | None = None,
) -> FrameLoader:
    rows = np.arange(160) if rows is None else rows
    return FrameLoader(reader, rows, mixture.is_real, Sampling(BATCH, real_share, gb(reader, memory_steps), seed=5))


def epoch_of(frames: FrameLoader, epoch: int) -> np.ndarray:
    first = epoch * frames.steps_per_epoch
    return np.concatenate([frames.batch(step)[0] for step in range(first, first + frames.steps_per_epoch)])


@pytest.mark.parametrize("reduction", [1, 2, 3, 4, 8, 24])
def test_a_view_is_its_window_averaged_and_rounded(reduction: int) -> None:
    config = ViewConfig(top=24, left=8, height=144, width=240, reduction=reduction)
    images = torch.randint(0, 256, (2, 240, 320, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[1] = 255  # the largest sum
    crop = images[:, 24:168, 8:248].long()
    blocks = crop.unflatten(2, (-1, reduction)).unflatten(1, (-1, reduction))
    wanted = (blocks.sum(dim=(2, 4)) + reduction**2 // 2) // reduction**2
    torch.testing.assert_close(View(config).window(images), wanted.to(torch.uint8), rtol=0, atol=0)


def test_frames_are_the_views_of_the_steps(reader: FrameReader, mixture: Mixture) -> None:
    rows = np.array([3, 4, 60, 119, 120, 159])
    frames = reader.read(rows)
    for camera, view in VIEWS.items():
        wanted = torch.cat([view.window(torch.from_numpy(mixture.images(camera, slice(r, r + 1)))) for r in rows])
        np.testing.assert_array_equal(frames.cameras[camera], wanted.numpy())
    assert torch.equal(frames.of(np.array([119, 3]))["front"][1], frames.of(np.array([3]))["front"][0])
    assert reader.bytes_per_step == 34 * 66 * 3 + 30 * 40 * 3


@pytest.mark.parametrize("memory_steps", [160, 64])
def test_an_epoch_has_every_step_once_in_another_order(
    reader: FrameReader, mixture: Mixture, memory_steps: int
) -> None:
    frames = loader(reader, mixture, memory_steps)
    assert frames.fits == (memory_steps == 160)
    first, second = epoch_of(frames, 0), epoch_of(frames, 1)
    assert sorted(first) == sorted(second) == list(range(160))
    assert (first != second).any()
    assert np.abs(np.diff(first)).mean() > 10, "neighbours in a batch are no neighbours in time"


@pytest.mark.parametrize("memory_steps", [160, 64])
def test_frames_of_a_batch_are_those_of_its_steps(reader: FrameReader, mixture: Mixture, memory_steps: int) -> None:
    frames = loader(reader, mixture, memory_steps)
    for step in (0, 9, 21):
        rows, cameras = frames.batch(step)
        wanted = reader.read(np.sort(rows)).of(rows)
        assert all(torch.equal(cameras[name], wanted[name]) for name in VIEWS)


@pytest.mark.parametrize("memory_steps", [160, 64])
def test_a_batch_follows_from_seed_and_number_alone(reader: FrameReader, mixture: Mixture, memory_steps: int) -> None:
    """So that a resumed run goes on as it would have."""
    straight = loader(reader, mixture, memory_steps)
    batches = [straight.batch(step)[0] for step in range(30)]
    resumed = loader(reader, mixture, memory_steps)
    assert all((resumed.batch(step)[0] == batches[step]).all() for step in range(23, 30))


def test_what_does_not_fit_is_read_ahead_in_bounded_memory(
    reader: FrameReader, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    begin = FrameReader.begin

    def counted(reader: FrameReader, rows: np.ndarray, *others: object) -> object:
        read.append(len(rows))
        return begin(reader, rows, *others)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(FrameReader, "begin", counted)
    frames = loader(reader, mixture, memory_steps=64)
    assert read == [], "nothing before it is needed"
    frames.batch(0)
    assert read == [32, 32], "half of the memory is in use, the other half is being filled"
    for step in range(1, 4):
        frames.batch(step)
    assert len(read) == 2
    frames.batch(4)
    assert read == [32] * 3
    epoch_of(frames, 1)
    assert max(read) == 32


def test_chunks_are_read_whole(reader: FrameReader, mixture: Mixture) -> None:
    """A segment takes its steps from few chunks: reading one step costs as much as reading all of its chunk."""
    frames = loader(reader, mixture, memory_steps=64)
    first = np.concatenate([frames.batch(step)[0] for step in range(4)])
    assert len(np.unique(reader.chunks_of(first))) <= 4


@pytest.mark.parametrize("memory_steps", [160, 64])
def test_domains_are_drawn_by_their_size_unless_they_have_shares(
    reader: FrameReader, mixture: Mixture, memory_steps: int
) -> None:
    plain = epoch_of(loader(reader, mixture, memory_steps), 0)
    assert mixture.is_real[plain].mean() == 0.25
    for share in (0.0, 0.5, 1.0):
        rows = epoch_of(loader(reader, mixture, memory_steps, real_share=share), 0)
        assert mixture.is_real[rows].mean() == pytest.approx(share, abs=0.05)
    half = epoch_of(loader(reader, mixture, memory_steps, real_share=0.5), 0)
    counts = np.bincount(half, minlength=160)
    assert set(counts[120:]) == {2}
    assert counts[:120].max() == 1


def test_random_places_keep_the_shares(reader: FrameReader, mixture: Mixture) -> None:
    rows = np.arange(40, 160)
    for share, wanted in ((None, 1 / 3), (0.8, 0.8)):
        places = loader(reader, mixture, 160, rows=rows, real_share=share).draw_places(400)
        assert mixture.is_real[rows[places.numpy()]].mean() == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("memory_steps", [160, 64])
def test_all_training_steps_can_be_gone_through(reader: FrameReader, mixture: Mixture, memory_steps: int) -> None:
    rows = np.arange(0, 160, 2)
    pieces: list[Frames] = list(loader(reader, mixture, memory_steps, rows=rows).pieces(32))
    assert [len(piece.rows) for piece in pieces] == [32, 32, 16]
    np.testing.assert_array_equal(np.concatenate([piece.rows for piece in pieces]), rows)
    wanted = reader.read(rows)
    for camera in VIEWS:
        np.testing.assert_array_equal(np.concatenate([p.cameras[camera] for p in pieces]), wanted.cameras[camera])


def test_impossible_memory_and_shares_are_refused(reader: FrameReader, mixture: Mixture, tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="do not hold two batches of 8 steps"):
        loader(reader, mixture, memory_steps=15)
    with pytest.raises(ResipError, match=r"a real share of 0.5 needs real data sets, and there are none"):
        loader(reader, mixture, 160, rows=np.arange(100), real_share=0.5)
    with pytest.raises(ResipError, match="a real share of 2 is none"):
        loader(reader, mixture, 160, real_share=2)


def test_more_memory_than_there_is_is_refused(
    reader: FrameReader, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resip_training.data.frames.available_bytes", lambda: 1000)
    with pytest.raises(
        ResipError, match=r"do not fit in the 0.0 GB of memory that are free: give a smaller --memory-gb"
    ):
        loader(reader, mixture, 160)


def test_damage_that_is_found_while_reading_ahead_is_reported(tmp_path: Path) -> None:
    damaged = Mixture([write_demos(tmp_path / "sim", n_episodes=4, n_steps=16).path])
    for chunk in (tmp_path / "sim" / "front" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\0" * chunk.stat().st_size)
    reader = FrameReader(damaged, VIEWS)
    frames = FrameLoader(reader, np.arange(64), damaged.is_real, Sampling(8, None, gb(reader, 32), seed=0))
    with pytest.raises(ResipError, match="is damaged, front cannot be read"):
        frames.batch(0)
