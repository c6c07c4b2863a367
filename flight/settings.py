"""Settings of a data directory: ``specflight.toml`` and the environment."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from specflight.errors import InvalidRequest
from specflight.flight.protocol import explain_validation

__all__ = ["ContextSettings", "Settings", "load_settings"]


class ContextSettings(BaseModel):
    """A context, ``[contexts.NAME]`` in ``specflight.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field("", description="one line for listings")
    release: str = Field("", description="data release, as in `DR17`")
    archive: Path | None = Field(None, description="FITS tree served on the fly where the context was never ingested")


class Settings(BaseSettings):
    """Every setting; each key also as ``SPECFLIGHT_<KEY>`` in the environment, which wins."""

    model_config = SettingsConfigDict(
        env_prefix="SPECFLIGHT_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    default_context: str | None = Field(
        None, description="context that `default` stands for; the last by name when not given"
    )
    contexts: dict[str, ContextSettings] = Field({}, description="contexts, a table `[contexts.NAME]` for each")
    max_ids: Annotated[int, Field(gt=0)] = Field(1_000_000, description="identifiers in one request")
    max_rows: Annotated[int, Field(gt=0)] = Field(5_000_000, description="rows of the answer to a query")
    max_clause: Annotated[int, Field(gt=0)] = Field(1_000_000, description="characters of a SQL clause")
    max_nesting: Annotated[int, Field(gt=0)] = Field(32, description="depth of nesting of a SQL clause")
    query_seconds: Annotated[float, Field(gt=0)] = Field(60.0, description="time limit of a query, in seconds")
    query_memory: str = Field("2GB", description="memory that the database may use")
    query_threads: Annotated[int, Field(gt=0)] = Field(2, description="threads that the database may use")
    drain_seconds: Annotated[float, Field(gt=0)] = Field(
        15.0, description="time that transfers in flight are given when the service stops, in seconds"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file: the file's values come in as arguments."""
        return env_settings, init_settings


def load_settings(data: Path) -> Settings:
    """Settings of a data directory.

    Parameters
    ----------
    data : Path
        The data directory; ``specflight.toml`` in it may be missing.

    Raises
    ------
    InvalidRequest
        Naming the key and the value at fault.
    """
    path = data / "specflight.toml"
    try:
        values = tomllib.loads(path.read_text()) if path.exists() else {}
        settings = Settings(**values)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}") from None
    except SettingsError as error:
        raise InvalidRequest(f"settings in the environment: {error}") from None
    except ValidationError as error:
        raise InvalidRequest(f"settings of {data}: {explain_validation(error)}") from None
    return settings
