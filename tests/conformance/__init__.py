"""Networks written natively in each framework, and the runner that compares what becomes of them."""
