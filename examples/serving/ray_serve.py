"""The service on Ray Serve: pip install 'ray[serve]', then serve run examples.serving.ray_serve:deployment."""

from ray import serve
from starlette.applications import Starlette

import engine
from engine.serving import Limits, app


def build() -> Starlette:
    """Return the service of one replica."""
    return app(engine.load(device="cpu", threads=2), limits=Limits(slots=1, queue=8))


# More calls than slots and places in the queue: the service itself refuses, with a Retry-After.
replicas = serve.deployment(
    serve.ingress(build)(), name="diffwave", num_replicas=2, max_ongoing_requests=32, ray_actor_options={"num_cpus": 2}
)
deployment = replicas.bind()
