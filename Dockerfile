# loraudit on a machine with an NVIDIA GPU:
#
#   docker build -t loraudit .
#   docker run --rm --gpus all -v "$PWD:/data:ro" -v loraudit-cache:/home/loraudit/.cache loraudit scan /data/model.safetensors
#
# torch brings the CUDA libraries that it needs; the host brings the driver. Models that ship are in the image. What scans on
# Stable Diffusion fetch is kept in the volume, and nothing is fetched while the image is built, but packages.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 loraudit

WORKDIR /opt/loraudit
COPY pyproject.toml README.md LICENSE ./
COPY loraudit ./loraudit
COPY models ./models
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --disable-pip-version-check '.[attack]'

# A number, so that an orchestrator sees that it is not root.
USER 1000
# A volume that is mounted here takes over the owner of the folder.
RUN mkdir -p /home/loraudit/.cache
WORKDIR /data

ENTRYPOINT ["loraudit"]
CMD ["--help"]
