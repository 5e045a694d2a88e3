"""Where work is done: the loop that carries out the scheduler's instructions, and the executors."""
