# The service on a CPU. In the root of the repository: docker build -t diffwave .
FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python -m venv /opt/diffwave && /opt/diffwave/bin/pip install --no-cache-dir "/source[serve]"

FROM python:3.12-slim-bookworm
COPY --from=build /opt/diffwave /opt/diffwave
ENV PATH=/opt/diffwave/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 990 --no-create-home diffwave
USER 990
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
# A service that everybody reaches needs a token: mount one as a secret.
ENTRYPOINT ["engine", "serve", "--host", "0.0.0.0"]
CMD ["--token", "@/run/secrets/token"]
