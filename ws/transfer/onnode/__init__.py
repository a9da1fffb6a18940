"""What runs on any Ray node: standard library and Ray only, pickled by value, no import of the rest of `ws`."""
