"""Other spellings of the same resources, translated to the canonical one at the door."""
