# The image of examples/kuberay.yaml: that of Dockerfile, with Ray. KubeRay's probes need wget.
#
#     docker build -t realesrgan .
#     docker build -t realesrgan-ray -f examples/kuberay.Dockerfile .
FROM realesrgan
USER root
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir -c constraints.txt 'ray[default]'
USER service
