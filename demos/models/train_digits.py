"""Train the digits denoiser on scikit-learn's 8x8 digits: a few minutes on two cores.

Run from the repository root: ``python -m demos.models.train_digits``. Rewrites
``digits_unet.safetensors`` beside this file; ``--grid`` also draws a sheet of samples.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import digits
from .pytorch import DigitsUNet, digits_unet


def load_data() -> tuple[np.ndarray, np.ndarray]:
    """All 1797 digits: images float32[N,1,8,8] in [-1, 1], labels int64[N]."""
    data = load_digits()
    images = (data.images / 8 - 1).astype(np.float32)  # grey levels are 0..16
    return images[:, None], data.target.astype(np.int64)


def train(steps: int, batch: int, rate: float, seed: int) -> DigitsUNet:
    """Minimise the noise-prediction error; return the moving average of the weights."""
    torch.manual_seed(seed)
    images, labels = map(torch.from_numpy, load_data())
    signal = torch.from_numpy(digits.alphas_cumprod().astype(np.float32))
    model = DigitsUNet().to(memory_format=torch.channels_last)  # a fifth faster here
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.05)
    start, running = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        pick = torch.randint(len(images), (batch,))
        t = torch.randint(digits.CONFIG.timesteps, (batch,))
        a = signal[t, None, None, None]
        eps = torch.randn(batch, *images.shape[1:])
        noisy = a.sqrt() * images[pick] + (1 - a).sqrt() * eps
        loss = F.mse_loss(model(noisy, t, labels[pick]), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update_parameters(model)
        running += loss.item()
        if step % 500 == 0:
            print(f"step {step:5d}  loss {running / 500:.4f}  {time.perf_counter() - start:4.0f} s")
            running = 0.0
    return ema.module.eval()


def sample(model: torch.nn.Module, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """One image per label (int64[N]) -> float32[N,1,8,8]."""

    @torch.inference_mode()
    def denoise(*inputs: np.ndarray) -> np.ndarray:
        return model(*map(torch.from_numpy, inputs)).numpy()

    return digits.ddim_sample(denoise, labels, seed=seed)


def recognised(images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that a classifier fitted to the real digits gives their intended label."""
    real, target = load_data()
    judge = SVC(gamma="scale").fit(real.reshape(len(real), -1), target)
    return judge.score(images.reshape(len(images), -1), labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=digits.DEFAULT_PATH)
    parser.add_argument("--grid", type=Path, help="also draw 100 samples to this PNG file")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    model = train(args.steps, args.batch, args.rate, args.seed)
    # safetensors writes an array's memory as it lies, and convolutions are channels last here.
    state = {name: np.ascontiguousarray(value) for name, value in model.state_dict().items()}
    save_file(state, args.out)
    count = sum(value.size for value in state.values())
    print(f"{args.out}: {count:,} parameters, {args.out.stat().st_size / 1e6:.2f} MB")

    labels = np.tile(np.arange(digits.CONFIG.classes), 10)
    images = sample(digits_unet(args.out), labels)  # judge the file, not the model in memory
    print(f"recognised samples: {recognised(images, labels):.0%}")
    if args.grid:
        digits.save_grid_png(images, args.grid)


if __name__ == "__main__":
    main()
