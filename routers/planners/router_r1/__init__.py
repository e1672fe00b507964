"""An LLM as the policy: it thinks, asks experts, reads what they say, and answers. (Router-R1: Zhang et al., arXiv 2506.09033)"""

from routers.planners.router_r1.planner import RouterR1

__all__ = ["RouterR1"]
