"""One module a kind: its fields, their checks, and what its CRD says of them."""
