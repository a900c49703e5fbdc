"""Preprocessing of camera frames, and JPEG."""

import numpy as np
import pytest
from resip import images


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_camera_frame_becomes_the_mean_of_its_2x2_blocks_with_halves_rounded_up():
    frame = noise(images.CAMERA_SHAPE)

    small = images.preprocess(frame)

    blocks = frame.astype(np.float64).reshape(240, 2, 320, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(small, np.floor(blocks + 0.5).astype(np.uint8))


def test_white_stays_white():
    assert images.preprocess(np.full(images.CAMERA_SHAPE, 255, np.uint8)).min() == 255


def test_an_image_of_the_policys_size_passes_through_unchanged():
    frame = noise(images.POLICY_SHAPE)
    np.testing.assert_array_equal(images.preprocess(frame), frame)


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (np.zeros((720, 1280, 3), np.uint8), r"uint8 of shape \(720, 1280, 3\)"),
        (np.zeros((240, 320), np.uint8), r"uint8 of shape \(240, 320\)"),
        (np.zeros((240, 320, 3), np.float32), r"float32 of shape \(240, 320, 3\)"),
    ],
)
def test_another_image_is_refused_naming_the_camera_what_was_expected_and_what_came(frame, got):
    with pytest.raises(images.ImageError, match=r"from wrist: expected uint8 rgb of shape \(480, 640, 3\).*got " + got):
        images.preprocess(frame, "wrist")


def test_jpeg_keeps_shape_and_nearly_the_colours():
    row = np.linspace(0, 255, 320, dtype=np.uint8)
    frame = np.broadcast_to(row[None, :, None], images.POLICY_SHAPE).copy()

    decoded = images.decode_jpeg(images.encode_jpeg(frame))

    assert decoded.shape == frame.shape
    assert np.abs(decoded.astype(int) - frame).max() <= 4


def test_channels_are_in_rgb_order_after_a_round_trip():
    red = np.zeros(images.POLICY_SHAPE, np.uint8)
    red[..., 0] = 200
    assert images.decode_jpeg(images.encode_jpeg(red))[..., 0].mean() > 190


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_truncated_jpeg_is_refused_naming_the_camera(cut):
    data = images.encode_jpeg(noise(images.POLICY_SHAPE))[:cut]
    with pytest.raises(images.ImageError, match=f"from front: {cut} bytes that are no complete JPEG"):
        images.decode_jpeg(data, "front")
