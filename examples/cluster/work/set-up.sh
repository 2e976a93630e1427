# Runs on each machine once it is up. It may run again, so each step must bear that.
set -eu
sudo apt-get -qq update
sudo apt-get -qq install -y python3-venv
python3 -m venv ~/venv
~/venv/bin/pip install --quiet torch numpy
~/venv/bin/python -c 'import torch; print(torch.cuda.device_count(), "GPUs, NCCL", torch.cuda.nccl.version())'
