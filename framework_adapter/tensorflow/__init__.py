"""TensorFlow in: Keras models, tf.Module, tf.function, SavedModel folders and frozen graphs."""

from framework_adapter.tensorflow.extract import TensorFlowFrontend

FRONTEND = TensorFlowFrontend()
