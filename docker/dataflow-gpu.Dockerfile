# A worker image for Dataflow with GPUs: Beam's SDK for Python, featuremill, ONNX Runtime with CUDA, PyTorch and TensorRT.
# NVIDIA's driver is the machine's: Dataflow installs it. docs/gpus.md has the command.
#
#   docker build -f docker/dataflow-gpu.Dockerfile -t IMAGE .

# Python and Beam have to be those of the launcher.
ARG PYTHON=3.11
ARG BEAM=2.77.0
FROM apache/beam_python${PYTHON}_sdk:${BEAM}

# CUDA 12 comes with these packages; the image needs no other copy of it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu128
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} torch
RUN pip install --no-cache-dir --extra-index-url https://pypi.nvidia.com "tensorrt-cu12>=10"

WORKDIR /opt/featuremill
COPY setup.py pyproject.toml README.md LICENSE ./
COPY artifacts artifacts
COPY transforms transforms
COPY platform platform
COPY jobs jobs
# onnxruntime and onnxruntime-gpu are one module in two packages: the second has to be the one that is left.
RUN pip install --no-cache-dir ".[gcp,images]" \
    && pip uninstall --yes onnxruntime \
    && pip install --no-cache-dir onnxruntime-gpu

# The build fails where a package does not go with another; a GPU shows on the worker alone.
RUN python -c "import featuremill.transforms.embedding_images, onnxruntime, torch; \
assert 'CUDAExecutionProvider' in onnxruntime.get_available_providers()"

WORKDIR /
# Beam's own entry point, as in the image that this one is made of.
ENTRYPOINT ["/opt/apache/beam/boot"]
