#!/usr/bin/env bash
# Entry point of a Ray node's container: find `ray` and a Python, make login shells work, hand over to the node agent.
# Every decision (head or worker, when to start, when to step down) is the agent's, in /opt/ws/node.
#
# This script stays process 1: bash reaps the orphans that Ray leaves behind.
set -u
trap 'exit 143' TERM INT  # process 1 ignores what it does not trap

AGENT=${WS_AGENT:-/opt/ws/node/__main__.py}
RAY_USER=${WS_RAY_USER:-ray}

# Ray belongs to the user `ray`; an image that starts as root changes to it first.
if [ "$(id -u)" = 0 ] && id "$RAY_USER" >/dev/null 2>&1; then
  home=$(getent passwd "$RAY_USER" | cut -d: -f6)
  exec setpriv --reuid "$RAY_USER" --regid "$(id -g "$RAY_USER")" --init-groups \
    env HOME="$home" USER="$RAY_USER" /bin/bash "$0" "$@"
fi

export PATH="$HOME/anaconda3/bin:/home/ray/anaconda3/bin:$PATH"
cd "$HOME" || exit 1

if ! command -v ray >/dev/null; then
  echo "✗ no \`ray\` on the PATH ($PATH): use an image with Ray installed (\`ws image build\` makes one)"
  exit 127
fi
PYTHON=$(command -v python3 || command -v python) || { echo "✗ no Python on the PATH ($PATH)"; exit 127; }

# A login shell (`su - ray`) drops the environment, and with it the cluster's token; the user's profile brings it back.
profile=$HOME/.profile
for candidate in "$HOME/.bash_profile" "$HOME/.bash_login"; do
  [ -e "$candidate" ] && { profile=$candidate; break; }
done
cat > "$HOME/.ws-profile" <<PROFILE
export PATH="$(dirname "$(command -v ray)"):\$PATH"
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-}" RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-}"
PROFILE
grep -qs ws-profile "$profile" || echo '. "$HOME/.ws-profile"' >> "$profile"

# Only the first signal is passed on; more of them would only interrupt `wait` once more, whose status then is theirs.
agent='' asked=''
trap 'trap "" TERM INT; asked=1; test -z "$agent" || kill -TERM "$agent" 2>/dev/null' TERM INT
"$PYTHON" -u "$AGENT" agent &
agent=$!
test -z "$asked" || kill -TERM "$agent"
wait "$agent"
code=$?
if [ -n "$asked" ]; then
  while kill -0 "$agent" 2>/dev/null; do wait "$agent"; done
  wait "$agent"  # bash remembers the status of what it has reaped meanwhile
  code=$?
fi
exit "$code"
