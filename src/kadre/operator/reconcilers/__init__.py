"""What is done about one object, one module a kind: a key in, an outcome out, its status written once at the end."""
