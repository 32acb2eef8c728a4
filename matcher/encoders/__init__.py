"""Frame encoders: pictures in, unit-length descriptors out; one protocol for every model."""
