"""From what a clip shows, sounds and says to one embedding: pooling over time, gating, heads."""
