# Runs on the machine, in the copy of this folder. What it leaves in results comes back.
set -eu
hostname > results/machine.txt
nvidia-smi --list-gpus >> results/machine.txt || echo "no GPU here" >> results/machine.txt
cat results/machine.txt
