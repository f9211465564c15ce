"""What the datastores raise beside the errors of `rcmed` and `access.PeerError`.

Both are at once what MONAI Label's own code expects and an `InputError`, whose text is fit to be shown.
"""

from __future__ import annotations

from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from rcmed.errors import InputError


class UnknownImageError(ImageNotFoundException, InputError):
    """No image of this datastore has this id."""


class UnknownLabelError(LabelNotFoundException, InputError):
    """No label of this datastore has this id and tag."""
