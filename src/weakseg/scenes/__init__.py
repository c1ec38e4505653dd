"""The generator of the images of the `demo` study: VOC-style scenes, and single objects for pre-training."""
