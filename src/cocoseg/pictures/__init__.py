"""Pictures of masks for people to look at."""

from typing import Annotated

from msgspec import Meta

GalleryImages = Annotated[int, Meta(ge=0, le=100, extra_json_schema={"examples": [8]})]
"""The type of the parameter that the stages with galleries share."""
