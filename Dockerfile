# An image of nextvlad, built from the registries of Debian, npm and PyPI only: docs/install.md.
# Its kernels are compiled for all levels of processors, and the one to use is chosen when it runs.
#   docker build -t nextvlad .                                        for CPUs
#   docker build -t nextvlad --build-arg NEXTVLAD_DEVICE=gpu .        for NVIDIA GPUs and CPUs
FROM debian:trixie-slim AS build
ARG NEXTVLAD_DEVICE=cpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ nodejs npm python3-pip
WORKDIR /clone
COPY . .
RUN npm ci --ignore-scripts --include=dev && npm run --silent package && npm install -g --ignore-scripts ./nextvlad-*.tgz
RUN nextvlad setup --device "$NEXTVLAD_DEVICE"

FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/lib/node_modules/nextvlad /usr/local/lib/node_modules/nextvlad
RUN ln -s ../lib/node_modules/nextvlad/dist/src/nextvlad.cjs /usr/local/bin/nextvlad
WORKDIR /work
ENTRYPOINT ["nextvlad"]
