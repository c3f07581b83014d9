# docker build -t honest-brain-mri .
# docker run --rm -v "$PWD":/output honest-brain-mri predict /output/scan.png      (GPU: --gpus all)
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/honest-brain-mri
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e .
ENV BRAIN_MRI_DATA=/data BRAIN_MRI_OUTPUT=/output
ENTRYPOINT ["honest-brain-mri"]
CMD ["--help"]
