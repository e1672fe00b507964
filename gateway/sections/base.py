"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9._:/\-]{1,128}$"
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """Unknown keys are errors, and nothing is changed after the file was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
