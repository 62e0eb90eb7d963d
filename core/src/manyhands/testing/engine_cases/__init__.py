"""The cases of the kit for engines, by topic."""
