"""What can be put on the canvas: packages of nodes built on the graph engine."""
