"""From a detector to one file that other programs run: graph, formats, parity, int8, and running such a file here."""
