"""`config_external_cluster.json`: which cluster of others to connect to, and where the web server listens."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ws.cluster.address import AUTO, parse
from ws.errors import ConfigError, Problem, UsageError

VARIABLE = "CASTRAY_CONFIG"
_LARGEST = 1 << 20


def _check_address(value: str) -> str:
    if value.strip() != AUTO:
        try:
            parse(value)
        except UsageError as error:
            raise PydanticCustomError("plain", "{what}", {"what": error.what, "mend": error.mend}) from None
    return value.strip()


def _check_host(value: str) -> str:
    if not value or any(letter.isspace() or letter in "/?#@" for letter in value):
        mend = "write an address of this machine, such as 127.0.0.1"
        raise PydanticCustomError("plain", "{what}", {"what": "is no host to listen at", "mend": mend})
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RayCluster(_Section):
    """Which cluster. `address` None or "auto": the best that discovery finds.

    `external_cluster` says that the cluster is somebody else's: nothing is started here, whatever happens.
    """

    address: Annotated[str, AfterValidator(_check_address)] | None = None
    namespace: Annotated[str, Field(min_length=1, max_length=200)] = "castray"
    create_demo_nodes: Annotated[bool, Field(strict=True)] = False
    external_cluster: Annotated[bool, Field(strict=True)] = True
    allow_local_start: Annotated[bool, Field(strict=True)] = False
    allow_local_fallback: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _starts_nothing_of_its_own(self) -> RayCluster:
        if self.external_cluster and self.allow_local_start:
            what = "allow_local_start contradicts external_cluster, which starts nothing here"
            raise PydanticCustomError("plain", "{what}", {"what": what, "mend": "set one of the two to false"})
        return self


class WebServer(_Section):
    host: Annotated[str, AfterValidator(_check_host)] = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 28823


class ExternalConfig(_Section):
    ray_cluster: RayCluster = RayCluster()
    web_server: WebServer = WebServer()


def load_external_config(path: Path | None, environ: Mapping[str, str]) -> ExternalConfig:
    """The config in `path`, else in the file that CASTRAY_CONFIG names, else the defaults.

    `RAY_ADDRESS` wins over its address: see `ws.cluster.connect.choose`. Raises ConfigError with every problem at once.
    """
    if path is None:
        named = environ.get(VARIABLE, "").strip()
        if not named:
            return ExternalConfig()
        path = Path(named)
    data = _read(path)
    try:
        return ExternalConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError([_problem(dict(detail), path) for detail in error.errors(include_url=False)]) from None


def _read(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            return json.loads(file.read(_LARGEST))
    except OSError as error:
        raise ConfigError([Problem("", f"can't be read: {error.strerror}", file=str(path))]) from None
    except json.JSONDecodeError as error:
        what = f"is no JSON: {error.msg} (column {error.colno})"
        raise ConfigError([Problem("", what, file=str(path), line=error.lineno)]) from None
    except (UnicodeDecodeError, RecursionError):
        raise ConfigError([Problem("", "is no JSON text", file=str(path))]) from None


def _problem(detail: dict[str, Any], path: Path) -> Problem:
    place = [str(part) for part in detail["loc"]]
    what, mend = str(detail["msg"]), detail.get("ctx", {}).get("mend")
    if detail["type"] == "extra_forbidden":
        what, mend = "there is no such key", _nearest(place)
    elif detail["type"] == "model_type":
        what = "must be an object with keys and values"
    return Problem(".".join(place) or "the file", what, mend, file=str(path))


def _nearest(place: list[str]) -> str | None:
    sections: dict[str, type[BaseModel]] = {"ray_cluster": RayCluster, "web_server": WebServer}
    model = sections.get(place[0], ExternalConfig) if len(place) > 1 else ExternalConfig
    near = difflib.get_close_matches(place[-1], model.model_fields, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(model.model_fields)}"
