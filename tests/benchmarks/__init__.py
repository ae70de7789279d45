"""The harness keeps its own word: arithmetic, clocks, processes, command lines."""
