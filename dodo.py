"""The front door: what `doit` reads. Everything else is in recipes/."""

from recipes import tasks

DOIT_CONFIG = tasks.use(globals())
