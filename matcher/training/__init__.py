"""Learning from one's own frames: edits as augmentation, descriptors, later heads and fusion."""
