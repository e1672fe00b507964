"""Trains the policy of the planner `router_r1`: an LLM that learns whom to ask, by rewards alone. (Router-R1: arXiv 2506.09033)"""
