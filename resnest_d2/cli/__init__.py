"""The command line, ``resnest-d2``: one module per command, put together in main.py."""
