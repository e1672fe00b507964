"""Which model should answer: pure decisions, no I/O."""
