"""What every stage shares: values, errors, named random generators, atomic files."""
