# SPDX-License-Identifier: Apache-2.0
# The README's `make demo` in a container, on the CPU: docker build -t vla_sd_ros . && docker run --rm vla_sd_ros
# To keep what the run leaves behind: docker run --rm -v "$PWD/runs:/vla_sd_ros/runs" vla_sd_ros
FROM python:3.11-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /vla_sd_ros
COPY . .
RUN make install
CMD ["make", "demo"]
