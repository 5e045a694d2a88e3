"""A small world with known truth: scenes, sounds, clips and sentences about them, all deterministic by a seed."""
