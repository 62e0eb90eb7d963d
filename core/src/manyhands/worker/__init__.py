"""What runs where the chunks run: decode, hooks, validation, encode."""
