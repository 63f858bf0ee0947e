#!/usr/bin/env bash
# Moves a running container from one host to another the way one does by hand: SSH, `podman container checkpoint --export`,
# scp, `podman container restore --import`, ovs-ofctl. It is what MOSE is measured against, so it is written as a careful
# person would write it: connections are opened and the destination's namespace is made before the container is frozen,
# nothing sleeps, what can be done at once is done at once, and the flow is switched only when the sockets are there, since
# a segment that came earlier would be answered with a reset.
#
#   migrate.sh start HOST IMAGE [COMMAND...]   makes the endpoint, the container and the flows
#   migrate.sh migrate FROM TO                 moves it
#   migrate.sh stop                            removes all of it, everywhere
#
# With ITERATIONS set, the memory is copied so many times while the service runs, by `podman container checkpoint
# --pre-checkpoint`, before the container is frozen; the last checkpoint (`--with-previous`) has only what was written since
# the last copy. Podman keeps one copy, which the next one replaces: every copy is of all memory. It needs a kernel with
# soft-dirty bits.
#
# The service is described in the environment: SERVICE (container, namespace), ADDRESS, PREFIX, MAC, MTU, BRIDGE, PRIORITY
# (of its flows), HOSTS ("name=underlay-address ..."), MOBILE (the client's host).
# Each step is a line of JSON on standard output, its times in ns since 1970.
set -euo pipefail

: "${SERVICE:?}" "${ADDRESS:?}" "${PREFIX:?}" "${MAC:?}" "${MTU:?}" "${BRIDGE:?}" "${PRIORITY:?}" "${HOSTS:?}" "${MOBILE:?}"

iterations=${ITERATIONS:-0}
[[ $iterations =~ ^[0-9]+$ ]] || { echo "ITERATIONS is no number: $iterations" >&2; exit 1; }

sockets=$(mktemp -d)
image=/var/tmp/$SERVICE-checkpoint.tar.zst
previous=/var/tmp/$SERVICE-pre-checkpoint.tar.zst
link=h-${SERVICE:0:13}
ssh_options=(-n -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR
  -o ControlMaster=auto -o "ControlPath=$sockets/%h" -o ControlPersist=60)

declare -A underlay=()
for pair in $HOSTS; do underlay[${pair%%=*}]=${pair#*=}; done

fail() {
  echo "$*" >&2
  exit 1
}

known() {
  [ -n "${underlay[$1]:-}" ] || fail "no host is called $1"
}

close_connections() {
  local host
  for host in "${!underlay[@]}"; do
    if [ -S "$sockets/${underlay[$host]}" ]; then
      ssh -o "ControlPath=$sockets/%h" -O exit "root@${underlay[$host]}" 2>/dev/null || true
    fi
  done
  rm -rf "$sockets"
}
trap close_connections EXIT

# on HOST FUNCTION ARGUMENTS...: runs one of the functions of this script there.
on() {
  local host=$1
  shift
  local settings
  settings=$(declare -p SERVICE ADDRESS PREFIX MAC MTU BRIDGE PRIORITY image previous iterations link)
  ssh "${ssh_options[@]}" "root@${underlay[$host]}" \
    "bash -c $(printf '%q' "set -euo pipefail; export PODMAN_IGNORE_CGROUPSV1_WARNING=1; $settings; $(declare -f "$1"); $(printf '%q ' "$@")")"
}

# step NAME COMMAND...: does it, and says how long it took. What the command prints is the step's detail, as JSON.
step() {
  local name=$1 from to detail
  shift
  from=$(date +%s%N)
  detail=$("$@") || return 1
  to=$(date +%s%N)
  printf '{"step":"%s","start_unix_ns":%s,"end_unix_ns":%s,"detail":%s}\n' "$name" "$from" "$to" "${detail:-null}"
}

# all COMMAND -- COMMAND ...: at once; fails if one of them does.
all() {
  local -a command=() running=()
  local word pid failed=0
  for word in "$@" --; do
    if [ "$word" = -- ]; then
      "${command[@]}" &
      running+=($!)
      command=()
    else
      command+=("$word")
    fi
  done
  for pid in "${running[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

# --- what is done on the hosts -------------------------------------------------------------------------------------------

nothing() { :; }

endpoint_up() {
  ip netns add "$SERVICE"
  ip link add "$link" mtu "$MTU" type veth peer name eth0 address "$MAC" mtu "$MTU" netns "$SERVICE"
  ip -n "$SERVICE" addr add "$ADDRESS/$PREFIX" dev eth0
  ip netns exec "$SERVICE" ethtool -K eth0 tx off >/dev/null
  ip -n "$SERVICE" link set lo up
  ip -n "$SERVICE" link set eth0 up
  ip link set "$link" up
  ovs-vsctl --may-exist add-port "$BRIDGE" "$link"
}

endpoint_down() {
  ovs-vsctl --if-exists del-port "$BRIDGE" "$link"
  ip link del "$link" 2>/dev/null || true
  ip netns del "$SERVICE" 2>/dev/null || true
}

# flows_to PORT: both flows of the service in one bundle, so that at no time only one of them is new.
flows_to() {
  printf 'priority=%s,%s,actions=output:%s\n' \
    "$PRIORITY" "ip,nw_dst=$ADDRESS" "$1" "$PRIORITY" "arp,arp_tpa=$ADDRESS" "$1" |
    ovs-ofctl -O OpenFlow14 --bundle add-flows "$BRIDGE" -
}

flows_gone() {
  ovs-ofctl -O OpenFlow14 del-flows "$BRIDGE" "ip,nw_dst=$ADDRESS"
  ovs-ofctl -O OpenFlow14 del-flows "$BRIDGE" "arp,arp_tpa=$ADDRESS"
}

tunnel_to() {
  local port
  port=$(ovs-vsctl --bare --columns=name find interface "external_ids:mose-tunnel=$1")
  [ -n "$port" ] || { echo "no tunnel to $1 on $(hostname)" >&2; return 1; }
  echo "$port"
}

# The connection between the two hosts is opened beforehand, too.
connect_to() {
  ssh -n -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR -o ControlMaster=auto \
    -o "ControlPath=/run/hand-$SERVICE" -o ControlPersist=60 "root@$1" true >/dev/null 2>&1
}

disconnect_from() { ssh -o "ControlPath=/run/hand-$SERVICE" -O exit "root@$1" 2>/dev/null || true; }

# Changes nothing; prints the image's name.
check_source() {
  [ "$(podman container inspect --format '{{.State.Running}}' "$SERVICE" 2>/dev/null)" = true ] ||
    { echo "$SERVICE does not run on $(hostname)" >&2; return 1; }
  podman container inspect --format '{{.ImageName}}' "$SERVICE"
}

check_destination() {
  podman image exists "$1" || { echo "image $1 is missing on $(hostname)" >&2; return 1; }
  ! podman container exists "$SERVICE" || { echo "$SERVICE is already on $(hostname)" >&2; return 1; }
  [ ! -e "/run/netns/$SERVICE" ] || { echo "a namespace $SERVICE is already on $(hostname)" >&2; return 1; }
}

start_container() {
  local from=$1
  shift
  podman run -d --name "$SERVICE" --network "ns:/run/netns/$SERVICE" "$from" "$@" >/dev/null
}

remove_container() { podman rm -f -t 0 "$SERVICE" >/dev/null 2>&1 || true; }

# The service runs on.
pre_checkpoint() {
  rm -f "$previous"
  podman container checkpoint --tcp-established --pre-checkpoint --export "$previous" "$SERVICE" >/dev/null
}

checkpoint() {
  local -a since=()
  [ "$iterations" = 0 ] || since=(--with-previous)
  podman container checkpoint --tcp-established --print-stats "${since[@]}" --export "$image" "$SERVICE" | tr -d '\n'
}

# copy_to ADDRESS FILE
copy_to() {
  # -O: one round trip less than SFTP, and no SFTP server needed.
  scp -O -q -o BatchMode=yes -o "ControlPath=/run/hand-$SERVICE" "$2" "root@$1:$2"
  printf '{"bytes":%s}' "$(stat -c %s "$2")"
}

restore() {
  local -a since=()
  [ "$iterations" = 0 ] || since=(--import-previous "$previous")
  podman container restore --tcp-established --print-stats "${since[@]}" --import "$image" | tr -d '\n'
}

remove_file() { rm -f "$image" "$previous"; }

# --- the steps -----------------------------------------------------------------------------------------------------------

check() {
  local from=$1 to=$2 image_name
  image_name=$(on "$from" check_source) || return 1
  on "$to" check_destination "$image_name"
}

prepare() {
  local from=$1 to=$2
  all on "$to" endpoint_up -- on "$from" connect_to "${underlay[$to]}" || return 1
  # Harmless before the container is there: nobody else sends here yet.
  on "$to" flows_to "$link"
}

undo_prepare() {
  local from=$1 to=$2
  on "$to" flows_to "$(on "$to" tunnel_to "$from")" || true
  on "$to" endpoint_down || true
  on "$from" disconnect_from "${underlay[$to]}" || true
}

# What was copied of the running service, of no use any more.
forget_copies() {
  [ "$iterations" = 0 ] || all on "$1" remove_file -- on "$2" remove_file || true
}

# The way to the host for each other host; looked up before the container is frozen.
declare -A way=()
find_ways() {
  local to=$1 host
  for host in "${!underlay[@]}"; do
    [ "$host" = "$to" ] || way[$host]=$(on "$host" tunnel_to "$to")
  done
}

# On all hosts but the destination, which has its flow already.
switch_flows() {
  local to=$1 host
  local -a others=()
  for host in "${!underlay[@]}"; do
    [ "$host" = "$to" ] || others+=(-- on "$host" flows_to "${way[$host]}")
  done
  all "${others[@]:1}"
}

# The container as it was, on the host it was on.
take_back() {
  local from=$1 to=$2
  echo "the migration failed; restoring on $from" >&2
  on "$to" remove_container || true
  undo_prepare "$from" "$to"
  on "$from" remove_container
  on "$from" restore >/dev/null
  on "$from" remove_file
}

clean_up() {
  local from=$1 to=$2
  all on "$from" remove_container -- on "$to" remove_file -- on "$from" disconnect_from "${underlay[$to]}"
  on "$from" endpoint_down
  on "$from" remove_file
}

migrate() {
  local from=$1 to=$2
  known "$from"
  known "$to"
  [ "$from" != "$to" ] || fail "source and destination are both $from"
  step connect all on "$from" nothing -- on "$to" nothing -- on "$MOBILE" nothing
  step check check "$from" "$to"
  # A condition switches `set -e` off in all that it calls, so those functions return their failures themselves.
  if ! step prepare prepare "$from" "$to"; then
    undo_prepare "$from" "$to"
    exit 1
  fi
  find_ways "$to"
  local round
  for ((round = 0; round < iterations; round++)); do
    step pre-checkpoint on "$from" pre_checkpoint &&
      step pre-copy on "$from" copy_to "${underlay[$to]}" "$previous" || {
      undo_prepare "$from" "$to"
      forget_copies "$from" "$to"
      exit 1
    }
  done
  if ! step checkpoint on "$from" checkpoint; then
    undo_prepare "$from" "$to"
    forget_copies "$from" "$to"
    exit 1
  fi
  {
    step copy on "$from" copy_to "${underlay[$to]}" "$image" &&
      step restore on "$to" restore
  } || {
    take_back "$from" "$to"
    exit 1
  }
  step flows switch_flows "$to"
  step clean clean_up "$from" "$to"
}

start() {
  local host=$1
  shift
  known "$host"
  on "$host" endpoint_up
  on "$host" start_container "$@"
  find_ways "$host"
  on "$host" flows_to "$link"
  switch_flows "$host"
}

stop() {
  local host
  for host in "${!underlay[@]}"; do
    [ "$host" = "$MOBILE" ] || on "$host" remove_container
    on "$host" endpoint_down
    on "$host" flows_gone
    on "$host" remove_file
  done
}

case ${1:-} in
start | migrate | stop) "$@" ;;
*) fail "usage: migrate.sh start HOST IMAGE [COMMAND...] | migrate FROM TO | stop" ;;
esac
