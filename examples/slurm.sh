#!/bin/bash
# Upscale films on the nodes of a Slurm job. It takes the arguments of inference_realesrgan_video.py:
#
#     sbatch --nodes=4 --gpus-per-node=1 examples/slurm.sh -i films -o results -s 2
#
# Run it in this project's folder, with .venv in it; all nodes must see that folder. Without --gpus-per-node it runs on
# CPUs.
#SBATCH --job-name=realesrgan
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN  # nobody else on these nodes gets into this job
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | sha256sum | cut -c 1-64)

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:$((20000 + SLURM_JOB_ID % 10000))
start="ray start --disable-usage-stats --block --num-cpus=\$SLURM_CPUS_ON_NODE"  # of the node that it runs on

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    bash -c "$start --head --include-dashboard=false --port=${address#*:}" &
server=$!
until ray health-check --address "$address" 2> /dev/null; do
    kill -0 "$server" 2> /dev/null || { echo "Ray did not start on $head" >&2; exit 1; }
    sleep 1
done
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    srun --overlap --nodes="$others" --ntasks="$others" --exclude="$head" bash -c "$start --address=$address" &
fi
python inference_realesrgan_video.py --cluster "$address" "$@"  # other nodes join as soon as they are up
