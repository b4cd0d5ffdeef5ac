"""The command line, ``resnest-d2``: one thin module a command, put together in main.py."""
