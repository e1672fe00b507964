"""Learns on recorded answers whom to ask next and when to stop."""
