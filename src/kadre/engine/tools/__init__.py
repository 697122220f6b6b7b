"""Tools behind one port, and small wrappers that each add one concern."""
