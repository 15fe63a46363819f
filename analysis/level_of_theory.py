"""Label that says which model in which version made a number."""

from pydantic import BaseModel, ConfigDict


class LevelOfTheory(BaseModel):
    """Label that every number carries: which model in which version made it."""

    model_config = ConfigDict(frozen=True)

    backend: str
    model: str
    version: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.model} {self.version}".strip()
