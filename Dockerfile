# The web service on a CPU, run by a plain user:
#   docker build -t realesrgan .
#   docker run -p 127.0.0.1:5000:5000 realesrgan --token SECRET
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends ffmpeg gcc libc6-dev g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /srv
COPY requirements.txt constraints.txt ./
# As the Makefile does, but with the PyTorch that holds nothing for GPUs.
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision \
 && pip install --no-cache-dir -c constraints.txt numpy setuptools cython \
 && pip install --no-cache-dir -c constraints.txt --no-build-isolation -r requirements.txt \
    basicsr gfpgan facexlib flask waitress prometheus_client \
 && pip uninstall -y opencv-python \
 && pip install --no-cache-dir -c constraints.txt --force-reinstall --no-deps opencv-python-headless
COPY inference_realesrgan.py inference_realesrgan_video.py ./
COPY realesrgan realesrgan
RUN python -m realesrgan.engines.kernel.build && useradd --create-home service && mkdir weights && chown service weights
USER service
EXPOSE 5000
ENTRYPOINT ["python", "-m", "realesrgan.web", "--host", "0.0.0.0"]
