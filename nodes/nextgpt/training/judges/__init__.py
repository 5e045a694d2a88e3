"""Judges of what was made: rules on pixels, spectra, tracks and words. Nothing in here is learned."""
