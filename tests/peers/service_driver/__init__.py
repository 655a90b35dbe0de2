"""What service_peer.py is made of: the wires, the roles, and an old libzmq by ctypes."""
