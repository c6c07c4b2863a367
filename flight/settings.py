"""Settings of a data directory: ``specflight.toml`` and the environment."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from specflight.errors import InvalidRequest
from specflight.flight.datadir import ContextDirectory
from specflight.flight.protocol import explain_validation

__all__ = ["ContextSettings", "HttpSettings", "ProfileSettings", "Settings", "load_settings"]


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1 or "{" in text:
        raise ValueError("give one line without braces, which old clients would take for JSON")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
Visibility = Literal["public", "private"]


class ContextSettings(BaseModel):
    """A context, ``[contexts.NAME]`` in ``specflight.toml``.

    What is not given is known for the public releases of SDSS; see `specflight.flight.releases.about`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Line = Field(default="", description="one line for listings")
    release: str = Field(default="", description="data release, as in `DR17`")
    type: Visibility = Field(default="public", description="`public`, or `private`: left out of listings")
    catalog: str = Field(default="", description="catalogue of a query that names none; `NAME.specobj` when not given")
    id_main: str = Field(default="specobjid", description="column of the identifiers, told to clients")
    redshift: str = Field(default="z", description="column of the redshifts, told to clients")
    rest_frame: bool = Field(default=False, description="whether wavelengths are in the rest frame, told to clients")
    catalogs: dict[str, Line] = Field(default={}, description="descriptions of catalogues by name, for listings")
    run2d: tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...] = Field(
        default=(), description="versions of the reductions in it, for listings"
    )
    survey: str = Field(
        default="", description="contexts of one survey stand in for each other; `sdss` of `sdss_dr17` when not given"
    )
    archive: Path | None = Field(
        default=None, description="FITS tree served on the fly where the context was never ingested"
    )


class ProfileSettings(BaseModel):
    """A profile, ``[profiles.NAME]`` in ``specflight.toml``: what clients are told of a deployment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Line = Field(default="", description="one line for listings")
    type: Visibility = Field(default="public", description="`public`, or `private`: left out of listings")


class HttpSettings(BaseModel):
    """The HTTP side, ``[http]`` in ``specflight.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: Annotated[int, Field(gt=0)] = Field(default=2, description="processes that answer")
    threads: Annotated[int, Field(gt=0)] = Field(default=32, description="requests that a process answers at one time")
    max_body: Annotated[int, Field(gt=0)] = Field(default=32 << 20, description="bytes of the body of a request")
    flight_seconds: Annotated[float, Field(gt=0)] = Field(
        default=90.0, description="time without a further part of an answer after which a request fails, in seconds"
    )
    picture_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        default=64 << 20, description="bytes of pictures that a process keeps"
    )
    picture_seconds: Annotated[float, Field(ge=0)] = Field(
        default=60.0, description="age up to which a picture is shown again, in seconds: then data ingested anew show"
    )
    drawings: Annotated[int, Field(gt=0)] = Field(default=1, description="pictures that a process draws at one time")
    drawing_wait_seconds: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="time that a picture may have to wait for others to be drawn, in seconds"
    )
    max_grid_cells: Annotated[int, Field(gt=0)] = Field(default=400, description="spectra in the picture of a grid")
    max_image_pixels: Annotated[int, Field(gt=0)] = Field(
        default=250_000_000, description="pixels of an image with a spectrum in each row"
    )
    storage: str = Field(
        default="storage", description="folder of the users' files, relative to the data directory, or a URL of fsspec"
    )
    storage_quota: Annotated[int, Field(gt=0)] = Field(default=1 << 30, description="bytes that a user may store")
    storage_max_file: Annotated[int, Field(gt=0)] = Field(default=1 << 30, description="bytes of one stored file")
    storage_url_seconds: Annotated[float, Field(gt=0)] = Field(
        default=600.0, description="time that a URL for the transfer of a stored file is good for, in seconds"
    )


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
        None, description="context that `default` stands for; the newest when not given"
    )
    contexts: dict[str, ContextSettings] = Field({}, description="contexts, a table `[contexts.NAME]` for each")
    profiles: dict[str, ProfileSettings] = Field(
        {}, description="profiles, a table `[profiles.NAME]` for each beside `default`"
    )
    max_ids: Annotated[int, Field(gt=0)] = Field(1_000_000, description="identifiers in one request")
    max_rows: Annotated[int, Field(gt=0)] = Field(5_000_000, description="rows of the answer to a query")
    max_clause: Annotated[int, Field(gt=0)] = Field(4_000_000, description="characters of a SQL clause")
    max_nesting: Annotated[int, Field(gt=0)] = Field(32, description="depth of nesting of a SQL clause")
    query_seconds: Annotated[float, Field(gt=0)] = Field(60.0, description="time limit of a query, in seconds")
    query_memory: str = Field("2GB", description="memory that the database may use")
    query_threads: Annotated[int, Field(gt=0)] = Field(2, description="threads that the database may use")
    drain_seconds: Annotated[float, Field(gt=0)] = Field(
        15.0, description="time that transfers in flight are given when the service stops, in seconds"
    )
    http: HttpSettings = Field(HttpSettings(), description="the HTTP side, a table `[http]`")

    @field_validator("contexts")
    @classmethod
    def _names_of_folders(cls, contexts: dict[str, ContextSettings]) -> dict[str, ContextSettings]:
        for name in contexts:
            ContextDirectory(Path(), name)
        return contexts

    @field_validator("profiles")
    @classmethod
    def _with_default(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        default = profiles.get("default", ProfileSettings())
        if not default.description:
            default = default.model_copy(update={"description": "Default service"})
        return {"default": default} | {name: profile for name, profile in profiles.items() if name != "default"}

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
