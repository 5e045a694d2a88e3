"""Evaluation: prompts that were withheld from training, answered, and judged by rule."""
