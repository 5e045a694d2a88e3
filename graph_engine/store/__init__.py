"""What is kept: values under content keys (in memory and on disk) and the runs that were accepted."""
