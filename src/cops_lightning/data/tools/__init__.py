"""What `cops-data` does with datasets: check them, unpack archives, fetch what is published as a package."""
