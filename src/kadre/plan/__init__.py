"""A resource with every reference followed: all that is needed to run it, or a list of Problems.

Law: pure. No file, no socket, no clock. The webhook, the operator, `kadre up`, `kadre validate` and
`kadre doctor` all call the one function here and get the same answer.
"""
