"""The errors that a user sees."""


class RagError(Exception):
    """Something a person can act on: one line that names the thing and says what to do next."""


class SettingsError(RagError):
    """A setting or an option that cannot work; the command line exits with 2."""
