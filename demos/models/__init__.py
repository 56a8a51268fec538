"""Demo networks, each written natively for PyTorch, TensorFlow (Keras) and MindSpore.

``digits`` and ``resnet50`` hold what the three share (configuration, weights, sampling) in
plain numpy; ``pytorch``, ``tensorflow`` and ``mindspore`` hold the networks and import their
framework, so import only the one you need.
"""
