"""Processes and sockets: the supervisor, its workers, the control process, and what passes between them."""
