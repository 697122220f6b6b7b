"""What the gateway knows of a cluster, and the keys by which pods believe it.

The gateway's doors are in `server.gateway`, which sees nothing of this: here are the ports that it asks.
"""
