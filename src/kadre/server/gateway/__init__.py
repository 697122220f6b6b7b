"""One door to every agent: it knows who calls, finds whom they ask, and hands requests to the hosts as they came.

It runs no agent and keeps no run. Who is served where is a port (`fleet`), who calls is another (`visitors`); a request
is handed on with a signed word for the one host that it is for.
"""
