"""How backends are found and chosen."""
