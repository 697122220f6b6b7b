"""What every room may use and that knows none of them: problems, errors, ids, clock, tasks, retry.

Law: standard library only. Nothing here knows what an agent, a model or Kubernetes is; it could be a
library of its own.
"""
