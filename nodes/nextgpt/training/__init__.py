"""Training of NExT-GPT: a small world to learn from, the stages, and what judges the result. Plain functions."""
