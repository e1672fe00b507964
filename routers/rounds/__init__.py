"""What several answers to one question are worth together: what `pointsman train rl-rounds` learns and planners read."""
