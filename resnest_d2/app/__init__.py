"""The page of ``resnest-d2 app``: detectors to try in the browser."""
