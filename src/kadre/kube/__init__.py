"""The controller loop over a Kubernetes API: client, informer, queue, outcome, leader.

Law: it knows objects as plain JSON and none of our kinds; what is to be done about them is asked of whoever uses it.
"""
