# Runs on each machine once. It may run again after a failure, so each step must bear that.
set -euo pipefail
mkdir -p ~/work
hostname > ~/work/set-up-of
cat ~/work/set-up-of
