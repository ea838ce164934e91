#!/bin/bash
# What each machine of a slice does when it starts: fetches the run's code from its bucket and starts the agent, which does the rest.
#
# The slice's metadata holds this script as `startup-script`. So it runs at each boot, as root, and may run any number of times.
# It needs curl, tar and Python 3.9 or newer; no key, no gcloud, no external address. It unpacks the code to ~/.pod/code-* and
# installs the service `pod-agent`, which starts the agent again after a crash or a reboot.
set -euo pipefail

export HOME=${HOME:-/root}
root=$HOME/.pod
metadata=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1
storage=${CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE:-https://storage.googleapis.com/storage/v1/}
umask 022
mkdir -p "$root"

say() { printf '%s  startup: %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

# Usage: ask PATH. Prints what the metadata server says.
ask() { curl -sSf --noproxy '*' --max-time 10 -H 'Metadata-Flavor: Google' "$metadata/instance/$1"; }

# Usage: fetch CODE FOLDER. Puts the archive of that name where FOLDER says, if its checksum is the one in the name.
fetch() {
  local control token object
  control=$(ask attributes/pod-control) && control=${control#gs://} &&
    token=$(ask service-accounts/default/token | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])') &&
    object=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "${control#*/}/$1") &&
    # The token comes on standard input, as a command line can be read by everybody.
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
    curl -sSf --config - --max-time 300 -o "$root/$1" "${storage%/}/b/${control%%/*}/o/$object?alt=media" &&
    echo "${1:5:64}  $root/$1" | sha256sum --check --quiet >&2 &&
    rm -rf "$2.partial" && mkdir "$2.partial" && tar -xzf "$root/$1" -C "$2.partial" && mv "$2.partial" "$2" && rm -f "$root/$1"
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || say "needs Python 3.9 or newer: $(python3 --version 2>&1)"

pause=1
until code=$(ask attributes/pod-code) && folder=$root/${code%.tar.gz} && { [[ -d $folder ]] || fetch "$code" "$folder"; }; do
  say "cannot fetch the code yet; again in $pause s"
  sleep "$pause"
  pause=$((pause < 60 ? 2 * pause : 60))
done

if [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null; then
  # What the agent started outlives it (KillMode), and a trainer that the kernel ends for its memory is not its end (OOMPolicy).
  cat >/etc/systemd/system/pod-agent.service <<END
[Unit]
Description=Agent of the training job on this slice
Wants=network-online.target
After=network-online.target

[Service]
Environment=HOME=$HOME
WorkingDirectory=$folder/launch
ExecStart=$(command -v python3) -m pod.agent $root
StandardOutput=append:$root/agent.log
StandardError=append:$root/agent.log
Restart=on-failure
RestartSec=5
KillMode=process
TimeoutStopSec=120
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=infinity

[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --now pod-agent.service
else
  cd "$folder/launch"
  # shellcheck disable=SC2016 # for the other shell
  setsid sh -c 'until python3 -m pod.agent "$1"; do sleep 5; done' pod-agent "$root" </dev/null >>"$root/agent.log" 2>&1 &
fi
say "the agent runs; see $root/agent.log"
