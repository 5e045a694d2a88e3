"""Scripts that keep the documents true: the node list, the picture of a graph, the measured claims."""
