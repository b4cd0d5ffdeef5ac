"""The seams to other libraries: everything here may break with one of their releases.

One module a library, one function a seam: what is private there, what is replaced for a while, and
what is told by the text of a message. The rest of the package uses public names alone.

Each function has a probe, which tries the seam once and remembers the answer, and something to do
where the probe says no: a slower way, or a :class:`~resnest_d2.errors.UserError`. Where a message's
text is matched, the match is the probe: an error that is not recognised stays what it was.
"""
