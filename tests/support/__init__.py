"""What tests of several rooms share: a host to play with, and servers to talk to."""
