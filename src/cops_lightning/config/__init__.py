"""Configuration: the options in `conf/`, checked against the classes that they name before anything is built."""
