"""What the network sees: the deterministic view of run time, and training's random changes of Tables 11 and 12."""

from __future__ import annotations

import pytest
import torch
from kornia.geometry.transform import resize
from resip.errors import ResipError
from resip_training.algorithms.bc import preset
from resip_training.data.images import AugmentConfig, PaperAugmentation, PaperAugmentConfig, augmentation
from resip_training.models.diffusion_policy import PAPER, PolicyConfig, views
from torch import Tensor, nn

#: Two float32 implementations of the same bilinear resizing, of values in [-1, 1].
RESIZING_BOUND = 1e-5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def frames(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 240, 320, 3), dtype=torch.uint8)


def paper(camera: str, **changes: float) -> PaperAugmentation:
    """The preset's, with some of its changes left out."""
    config, _ = preset("paper")
    of_camera = config.front_augment if camera == "front" else config.wrist_augment
    assert isinstance(of_camera, PaperAugmentConfig)
    changed = augmentation(views(PAPER)[camera], PaperAugmentConfig(**{**vars(of_camera), **changes}))
    assert isinstance(changed, PaperAugmentation)
    return changed


@pytest.mark.parametrize(("camera", "size"), [("front", (240, 280)), ("wrist", (224, 224))])
def test_at_run_time_a_view_is_kornias_resizing_and_centre_crop(camera: str, size: tuple[int, int]) -> None:
    images = frames(2)
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    wanted = resize(pixels, size, "bilinear", align_corners=False, antialias=False)
    wanted = wanted[:, :, top : top + 224, left : left + 224]
    assert (views(PAPER)[camera](images) - wanted).abs().max() < RESIZING_BOUND


def test_the_front_image_is_squeezed_in_width_alone() -> None:
    """280x240 is width x height: nothing of the height is lost but by the crop."""
    images = torch.zeros(1, 240, 320, 3, dtype=torch.uint8)
    images[:, :, 160:] = 255
    seen = views(PAPER)["front"](images)[0, 0]
    assert (seen[:, :111] == -1).all()
    assert (seen[:, 113:] == 1).all()


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_without_random_changes_training_sees_what_run_time_does(camera: str) -> None:
    unchanged = paper(camera, jitter=0.0, blur_sigma_px=(0.01, 0.01), erased=0.0)  # pyright: ignore[reportArgumentType]
    setattr(unchanged, "crop", CentreCrop())  # noqa: B010 (another type)
    images = frames(2)
    torch.testing.assert_close(unchanged(images), views(PAPER)[camera](images), atol=1e-4, rtol=0)


class CentreCrop(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, :, 8:232, 28:252]


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_training_is_random_but_follows_from_the_seed(camera: str) -> None:
    images, changed = frames(3), paper(camera)

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return changed(images)

    first = seeded(1)
    assert first.shape == (3, 3, 224, 224)
    assert first.abs().max() <= 1
    assert not torch.equal(changed(images), first)
    assert not torch.equal(seeded(2), first)
    assert torch.equal(seeded(1), first)


def test_every_change_is_within_the_range_of_tables_11_and_12() -> None:
    changed = paper("front", erased=1.0)
    changed(frames(48))
    jitter, blur = changed.jitter._params, changed.blur._params
    for name in ("brightness_factor", "contrast_factor", "saturation_factor"):
        assert 0.7 <= jitter[name].min() < 0.8
        assert 1.2 < jitter[name].max() <= 1.3
    assert -0.3 <= jitter["hue_factor"].min() < -0.2
    assert 0.2 < jitter["hue_factor"].max() <= 0.3
    assert 0.01 <= blur["sigma"].min() < 0.2
    assert 1.0 < blur["sigma"].max() <= 1.2
    left, top = changed.crop._params["src"][:, 0].T
    assert 0 <= left.min() < 10
    assert 46 < left.max() <= 280 - 224
    assert top.min() >= 0
    assert 12 <= top.max() <= 240 - 224
    erasing = changed.erasing._params
    share = erasing["widths"] * erasing["heights"] / 224**2
    ratio = erasing["heights"] / erasing["widths"]
    assert share.min() > 0.015
    assert share.max() < 0.34
    assert ratio.min() > 0.28
    assert ratio.max() < 3.5


def test_one_front_image_in_five_loses_a_rectangle_to_noise_and_no_wrist_image() -> None:
    still = {"jitter": 0.0, "blur_sigma_px": (0.01, 0.01)}
    grey = torch.full((60, 240, 320, 3), 128, dtype=torch.uint8)
    front, wrist = paper("front", **still)(grey), paper("wrist", **still)(grey)  # pyright: ignore[reportArgumentType]
    erased = (front - front[:, :, :1, :1]).abs().amax(dim=1) > 0.02
    share = erased.flatten(1).float().mean(dim=1)
    assert 4 <= (share > 0).sum() <= 22
    assert share[share > 0].min() > 0.015
    assert front.std(dim=(1, 2, 3))[share > 0].min() > 0.05, "of random colours, not of one"
    assert wrist.std() < 0.01


def test_changes_that_are_not_for_a_view_are_refused() -> None:
    with pytest.raises(ResipError, match="AugmentConfig does not go with a ResizedView"):
        augmentation(views(PAPER)["front"], AugmentConfig())
    with pytest.raises(ResipError, match="PaperAugmentConfig does not go with a View"):
        augmentation(views(PolicyConfig())["front"], PaperAugmentConfig())


def test_the_compact_view_is_shifted_by_a_pixel_at_most() -> None:
    view = views(PolicyConfig())["front"]
    window = torch.zeros(40, 136, 264, 3, dtype=torch.uint8)
    window[:, 60, 100] = 255
    still = AugmentConfig(brightness=0.0, contrast=0.0)
    where = augmentation(view, still)(window)[:, 0].flatten(1).argmax(dim=1)
    rows, columns = where // 256 - 56, where % 256 - 96
    assert set(rows.tolist()) == set(columns.tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("shift_px", [-1, 9])
def test_a_shift_that_the_view_has_no_room_for_is_rejected(shift_px: int) -> None:
    with pytest.raises(ResipError, match=f"images cannot be shifted by {shift_px} px: 0 to 4 are to spare"):
        augmentation(views(PolicyConfig())["front"], AugmentConfig(shift_px=shift_px))


def test_images_that_are_not_shifted_are_the_centre_that_run_time_sees() -> None:
    view = views(PolicyConfig())["front"]
    window = frames(2)[:, :136, :264]
    still = AugmentConfig(shift_px=0, brightness=0.0, contrast=0.0)
    torch.testing.assert_close(augmentation(view, still)(window), view.centre(window))
