"""Client of a specflight service.

>>> from specflight.client import Client
>>> with Client("grpc://127.0.0.1:8815") as client:  # doctest: +SKIP
...     ids = client.query(30.0, 1.0, 0.5)
...     spectra = client.getSpec(ids)
"""

from specflight.client._client import Client

__all__ = ["Client"]
