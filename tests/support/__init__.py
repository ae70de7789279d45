"""What tests stand on: an edge in a thread, scripted upstreams, raw clients. Real sockets throughout."""
