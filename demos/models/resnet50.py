"""ResNet-50 v1.5: its shape and seeded random weights, in numpy.

The weights are untrained; they are scaled so that activations stay of order one from the image
to the logits, which is what a numerical comparison of two implementations needs.
"""

import numpy as np

IMAGE_SIZE = 224
CLASSES = 1000
EXPANSION = 4  # a bottleneck's output channels over its inner width
EPSILON = 1e-5  # of every batch normalisation
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # inner width, blocks, first stride


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Every parameter and statistic, float32, under its torchvision name and PyTorch layout."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        std = np.float32(np.sqrt(2 / (inputs * kernel * kernel)))  # He: keeps the scale over ReLU
        shape = (outputs, inputs, kernel, kernel)
        weights[f"{name}.weight"] = std * rng.standard_normal(shape, dtype=np.float32)

    def norm(name: str, channels: int, gain: float = 1.0) -> None:
        def uniform(low: float, high: float) -> np.ndarray:
            return rng.uniform(low, high, channels).astype(np.float32)

        weights[f"{name}.weight"] = uniform(0.8 * gain, 1.2 * gain)
        weights[f"{name}.bias"] = uniform(-0.2, 0.2)
        weights[f"{name}.running_mean"] = uniform(-0.2, 0.2)
        weights[f"{name}.running_var"] = uniform(0.7, 1.4)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, (width, blocks, _) in enumerate(STAGES, start=1):
        outputs = width * EXPANSION
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, inputs, 1)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            conv(f"{name}.conv3", outputs, width, 1)
            norm(f"{name}.bn3", outputs, gain=0.4)  # a small branch: 16 of them are summed
            if block == 0:
                conv(f"{name}.downsample.0", outputs, inputs, 1)
                norm(f"{name}.downsample.1", outputs, gain=0.6)
            inputs = outputs
    std = np.float32(1 / np.sqrt(inputs))
    weights["fc.weight"] = std * rng.standard_normal((CLASSES, inputs), dtype=np.float32)
    weights["fc.bias"] = rng.uniform(-0.1, 0.1, CLASSES).astype(np.float32)
    return weights
