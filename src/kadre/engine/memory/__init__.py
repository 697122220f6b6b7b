"""Where events are kept: one port, one contract suite, several stores."""
