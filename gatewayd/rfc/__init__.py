"""HTTP's rules without I/O: what a path, a target, a host and a header field may be, and their one
spelling.
"""
