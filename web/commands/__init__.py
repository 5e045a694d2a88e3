"""What `anyloom` can be told to do, one file per command (or per few that belong together)."""
