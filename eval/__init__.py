"""Ground truth, edits, measuring and demonstrations; never imported by the other packages."""
