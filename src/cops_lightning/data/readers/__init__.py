"""From files on disk to checked samples: layouts, listings, specs, and the index that they produce."""
