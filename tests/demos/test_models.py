"""The demo networks compute one function in the three frameworks, and the sampler is sound."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from demos.models import digits, inputs, resnet50

TOLERANCE = 1e-5


def scaled_error(actual: np.ndarray, reference: np.ndarray) -> float:
    assert actual.shape == reference.shape
    return np.abs(actual - reference).max() / max(np.abs(reference).max(), 1e-6)


def run_pytorch(name: str, batch: int) -> np.ndarray:
    torch = pytest.importorskip("torch")
    from demos.models import pytorch

    with torch.inference_mode():
        model = getattr(pytorch, name)()
        return model(*map(torch.from_numpy, pytorch.example_inputs(name, batch))).numpy()


def run_tensorflow(name: str, batch: int) -> np.ndarray:
    pytest.importorskip("tensorflow")
    from demos.models import tensorflow

    x = tensorflow.example_inputs(name, batch)
    out = getattr(tensorflow, name)()(x if len(x) > 1 else x[0]).numpy()
    return out.transpose(0, 3, 1, 2) if out.ndim == 4 else out


def run_mindspore(name: str, batch: int) -> np.ndarray:
    ms = pytest.importorskip("mindspore")
    from demos.models import mindspore

    model = getattr(mindspore, name)()
    return model(*map(ms.Tensor, mindspore.example_inputs(name, batch))).asnumpy()


@pytest.mark.parametrize(("name", "batch"), [("digits_unet", 4), ("resnet50", 1)])
def test_frameworks_agree(name: str, batch: int) -> None:
    reference = run_pytorch(name, batch)
    assert np.isfinite(reference).all()
    assert 0.1 < reference.std() < 10  # neither vanishing nor exploding
    # MindSpore last: its runtime is loaded after the others'.
    for run in (run_tensorflow, run_mindspore):
        error = scaled_error(run(name, batch), reference)
        print(f"{name}: {run.__name__} differs by {error:.1e}")
        assert error <= TOLERANCE


def test_resnet50_weights_follow_the_seed() -> None:
    first, again, other = (resnet50.random_weights(seed)["fc.weight"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_example_inputs() -> None:
    x, t, y = inputs.example_inputs("digits_unet", batch=3)
    assert x.shape == (3, 1, 8, 8)
    assert (x.dtype, t.dtype, y.dtype) == (np.float32, np.int64, np.int64)
    assert t.shape == y.shape == (3,)
    with pytest.raises(ValueError, match="unknown network"):
        inputs.example_inputs("vgg")


def test_weights_file_is_small_and_float32() -> None:
    assert digits.DEFAULT_PATH.stat().st_size <= 3_000_000
    assert {value.dtype for value in digits.load_weights().values()} == {np.dtype(np.float32)}


def test_noise_schedule_goes_from_signal_to_noise() -> None:
    signal = digits.alphas_cumprod()
    assert signal.shape == (digits.CONFIG.timesteps,)
    assert (np.diff(signal) < 0).all()
    assert signal[0] > 0.999
    assert 0 < signal[-1] < 1e-3


def test_ddim_recovers_the_image_a_perfect_denoiser_knows() -> None:
    signal = digits.alphas_cumprod()
    truth = np.random.default_rng(1).uniform(-1, 1, (3, 1, 8, 8))

    def denoise(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert (x.dtype, t.dtype, y.dtype) == (np.float32, np.int64, np.int64)
        a = signal[t][:, None, None, None]
        return ((x - np.sqrt(a) * truth) / np.sqrt(1 - a)).astype(np.float32)

    images = digits.ddim_sample(denoise, np.arange(3))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, truth, atol=1e-2)


def test_trained_digits_are_repeatable_and_recognised() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from demos.models import pytorch, train_digits

    model, labels = pytorch.digits_unet(), np.tile(np.arange(10), 3)
    with torch.inference_mode():
        first, again, other = (train_digits.sample(model, labels, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert train_digits.recognised(first, labels) >= 0.8


def test_grid_png(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    images = np.stack([np.full((1, 8, 8), value, np.float32) for value in (-1, 0, 1)])
    digits.save_grid_png(images, path, columns=2, scale=3)

    data, chunks = path.read_bytes(), {}
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack_from(">2I", chunks[b"IHDR"])
    assert (width, height) == (2 * 10 * 3, 2 * 10 * 3)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (lines[:, 0] == 0).all()
    pixels = lines[:, 1:].reshape(2, 30, 2, 30)[:, 15, :, 15]  # the middle of each cell
    assert pixels.tolist() == [[0, 128], [255, 0]]
