"""What the driver of `pyzmq_peer.py` is made of; its commands are described there."""
