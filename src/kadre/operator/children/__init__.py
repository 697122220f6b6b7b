"""The objects an agent becomes: pure functions from a plan to manifests, with the names they will always have."""
