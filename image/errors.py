"""What may go wrong while an image is made or a guest runs."""


class ImageError(Exception):
    """Something that the person at the keyboard must see; the message says what to do or what was seen last."""


class BuildError(ImageError):
    """A step of a build failed; the message ends with the last lines of its log."""


class GuestError(ImageError):
    """The guest did not do what it was asked; the message ends with the tail of its console."""


class GuestDied(GuestError):
    """The guest panicked, or its machine ended."""


class GuestTimeout(GuestError):
    """The guest did not answer, or a command did not end, before its deadline."""
