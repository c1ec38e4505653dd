"""The base of everything that is read from YAML: a typed model that refuses what it does not know."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses keys it does not know, so that a typing error cannot pass unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
