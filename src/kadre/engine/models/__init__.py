"""Models behind one port: each module translates the neutral messages to one provider's wire and back."""
