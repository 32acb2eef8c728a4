"""The clip model's parts put to the test on generated clips whose difficulty is known."""
