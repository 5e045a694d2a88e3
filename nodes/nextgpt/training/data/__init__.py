"""Data sets of NExT-GPT's original formats, read and checked."""
