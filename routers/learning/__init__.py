"""Outcomes of models, and what is learned from them."""
