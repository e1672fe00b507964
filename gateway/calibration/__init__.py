"""Outcomes of one's own models: every model is asked every question, and its answers are graded."""
