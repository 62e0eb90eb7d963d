"""The cases of the kit, a module for each topic."""
