"""Every table of the paper by one command: its rows, their runs, what came out."""
