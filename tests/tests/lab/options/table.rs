//! Every option of `podman run`, and what becomes of it in a move.

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It moves: with the container of that name in [`MOVED`].
    Moves(&'static str),
    /// A container with it is refused before it is touched: the one of that name in [`REFUSED`].
    Refused(&'static str),
    /// It says how the command goes about it; it is no part of the container that is there then.
    OfTheCommand,
    /// Podman itself does not take it here, for this reason.
    NotHere(&'static str),
}

use Fate::{Moves, NotHere, OfTheCommand, Refused};

const USER_NAMESPACE: &str = "runc sets no sysctl of a network namespace that is another user namespace's";
const OTHER_NETWORK: &str =
    "Podman takes it for networks of its own only, and a service that moves is given a namespace";

/// All options, in the order of their names.
pub(crate) static FATES: &[(&str, Fate)] = &[
    ("add-host", Moves("names")),
    ("annotation", Moves("words")),
    ("arch", OfTheCommand),
    ("attach", OfTheCommand),
    ("authfile", OfTheCommand),
    ("blkio-weight", NotHere("the lab's kernel has no scheduler with weights for block devices")),
    ("blkio-weight-device", NotHere("the lab's kernel has no scheduler with weights for block devices")),
    ("cap-add", Moves("guarded")),
    ("cap-drop", Moves("guarded")),
    ("cgroup-conf", NotHere("it is for cgroup v2")),
    ("cgroup-parent", Moves("limits")),
    ("cgroupns", Moves("guarded")),
    ("cgroups", Moves("guarded")),
    ("chrootdirs", Moves("names")),
    ("cidfile", OfTheCommand),
    ("conmon-pidfile", Moves("words")),
    ("cpu-period", Moves("limits")),
    ("cpu-quota", Moves("limits")),
    ("cpu-rt-period", NotHere("the lab's kernel has no real-time group scheduling")),
    ("cpu-rt-runtime", NotHere("the lab's kernel has no real-time group scheduling")),
    ("cpu-shares", Moves("limits")),
    ("cpus", Moves("guarded")),
    ("cpuset-cpus", Moves("limits")),
    ("cpuset-mems", Moves("limits")),
    ("decryption-key", OfTheCommand),
    ("detach", OfTheCommand),
    ("detach-keys", OfTheCommand),
    ("device", Refused("with-device")),
    ("device-cgroup-rule", Moves("limits")),
    ("device-read-bps", NotHere("the lab's hosts see no block device")),
    ("device-read-iops", NotHere("the lab's hosts see no block device")),
    ("device-write-bps", NotHere("the lab's hosts see no block device")),
    ("device-write-iops", NotHere("the lab's hosts see no block device")),
    ("disable-content-trust", OfTheCommand),
    ("dns", Moves("names")),
    ("dns-option", Moves("names")),
    ("dns-search", Moves("names")),
    ("entrypoint", Moves("words")),
    ("env", Moves("words")),
    ("env-file", Moves("words")),
    ("env-host", Moves("guarded")),
    ("env-merge", Moves("words")),
    ("expose", Moves("names")),
    ("gidmap", NotHere(USER_NAMESPACE)),
    ("gpus", NotHere("no host of the lab has one")),
    ("group-add", Moves("words")),
    ("group-entry", Moves("words")),
    ("health-cmd", Moves("healthy")),
    ("health-interval", Moves("healthy")),
    ("health-log-destination", Moves("healthy")),
    ("health-max-log-count", Moves("healthy")),
    ("health-max-log-size", Moves("healthy")),
    ("health-on-failure", Moves("healthy")),
    ("health-retries", Moves("healthy")),
    ("health-start-period", Moves("healthy")),
    ("health-startup-cmd", Moves("healthy")),
    ("health-startup-interval", Moves("healthy")),
    ("health-startup-retries", Moves("healthy")),
    ("health-startup-success", Moves("healthy")),
    ("health-startup-timeout", Moves("healthy")),
    ("health-timeout", Moves("healthy")),
    ("help", OfTheCommand),
    ("hostname", Moves("words")),
    ("hosts-file", Moves("names")),
    ("hostuser", Moves("words")),
    ("http-proxy", Moves("words")),
    ("image-volume", Moves("words")),
    ("init", Moves("terminal")),
    ("init-path", Moves("terminal")),
    ("interactive", Moves("terminal")),
    ("ip", NotHere(OTHER_NETWORK)),
    ("ip6", NotHere(OTHER_NETWORK)),
    ("ipc", Moves("guarded")),
    ("label", Moves("words")),
    ("label-file", Moves("words")),
    ("log-driver", Moves("words")),
    ("log-opt", Moves("words")),
    ("mac-address", NotHere(OTHER_NETWORK)),
    ("memory", Moves("limits")),
    ("memory-reservation", Moves("limits")),
    ("memory-swap", Moves("limits")),
    ("memory-swappiness", Moves("limits")),
    ("mount", Moves("guarded")),
    ("name", OfTheCommand),
    ("network", Moves("words")),
    ("network-alias", NotHere(OTHER_NETWORK)),
    ("no-healthcheck", Moves("words")),
    ("no-hostname", Moves("bare")),
    ("no-hosts", Moves("bare")),
    ("oom-kill-disable", Moves("limits")),
    ("oom-score-adj", Moves("limits")),
    ("os", OfTheCommand),
    ("passwd", Moves("bare")),
    ("passwd-entry", Moves("words")),
    ("personality", Moves("guarded")),
    ("pid", Refused("with-the-hosts-pids")),
    ("pidfile", Moves("words")),
    ("pids-limit", Moves("limits")),
    ("platform", OfTheCommand),
    ("pod", Refused("in-a-pod")),
    ("pod-id-file", Refused("in-a-pod")),
    ("preserve-fd", Refused("with-descriptors")),
    ("preserve-fds", Refused("with-descriptors")),
    ("privileged", Moves("privileged")),
    ("publish", Moves("names")),
    ("publish-all", Moves("names")),
    ("pull", OfTheCommand),
    ("quiet", OfTheCommand),
    ("rdt-class", NotHere("the lab's processor has no resource director")),
    ("read-only", Moves("guarded")),
    ("read-only-tmpfs", Moves("guarded")),
    ("replace", OfTheCommand),
    ("requires", Refused("with-a-need")),
    ("restart", Moves("limits")),
    ("retry", OfTheCommand),
    ("retry-delay", OfTheCommand),
    ("rm", Moves("passing")),
    ("rmi", Moves("passing")),
    ("rootfs", Refused("on-a-folder")),
    ("sdnotify", Moves("words")),
    ("seccomp-policy", Moves("words")),
    ("secret", Moves("trusted")),
    ("security-opt", Moves("guarded")),
    ("shm-size", Moves("limits")),
    ("shm-size-systemd", Moves("privileged")),
    ("sig-proxy", OfTheCommand),
    ("stop-signal", Moves("words")),
    ("stop-timeout", Moves("words")),
    ("subgidname", NotHere(USER_NAMESPACE)),
    ("subuidname", NotHere(USER_NAMESPACE)),
    ("sysctl", Moves("guarded")),
    ("systemd", Moves("bare")),
    ("timeout", Moves("words")),
    ("tls-verify", OfTheCommand),
    ("tmpfs", Moves("guarded")),
    ("tty", Moves("terminal")),
    ("tz", Moves("words")),
    ("uidmap", NotHere(USER_NAMESPACE)),
    ("ulimit", Moves("limits")),
    ("umask", Moves("words")),
    ("unsetenv", Moves("words")),
    ("unsetenv-all", Moves("guarded")),
    ("user", Moves("words")),
    ("userns", NotHere(USER_NAMESPACE)),
    ("uts", Moves("guarded")),
    ("variant", OfTheCommand),
    ("volume", Moves("bare")),
    ("volumes-from", Refused("with-anothers-volumes")),
    ("workdir", Moves("words")),
];

/// Containers that move: a name and its options.
pub(crate) static MOVED: &[(&str, &str)] = &[
    (
        "limits",
        "--cgroup-parent=/libpod_parent --cpu-period=100000 --cpu-quota=90000 --cpu-shares=512 --cpuset-cpus=0 --cpuset-mems=0 \
         --device-cgroup-rule=c␣1:3␣rwm --memory=256m --memory-reservation=128m --memory-swap=512m --memory-swappiness=10 \
         --oom-kill-disable --oom-score-adj=100 --pids-limit=64 --restart=on-failure:3 --shm-size=8m --ulimit=nofile=99:99 \
         --ulimit=core=0:0",
    ),
    (
        "words",
        "--annotation=team=uav --conmon-pidfile=/run/words-conmon.pid --entrypoint=[\"busybox\"] --env=GREETING=hello \
         --env-file=/root/words.env --env-merge=PATH=${PATH}:/opt --group-add=2000 --group-entry=extra:x:2001: \
         --hostname=the-words --hostuser=nobody --http-proxy=false --image-volume=tmpfs --label=a=b --label-file=/root/words.labels \
         --log-driver=k8s-file --log-opt=max-size=1mb --no-healthcheck --passwd-entry=odd:x:7:7::/:/bin/sh \
         --pidfile=/run/words.pid --sdnotify=conmon --seccomp-policy=default --stop-signal=SIGUSR1 --stop-timeout=3 --timeout=3600 \
         --tz=UTC --umask=0077 --unsetenv=container --user=0:0 --workdir=/www",
    ),
    (
        "guarded",
        "--cap-add=SYS_TIME --cap-drop=CHOWN --cgroupns=private --cgroups=enabled --cpus=0.9 --env-host --ipc=private \
         --mount=type=tmpfs,destination=/scratch,tmpfs-size=1m --personality=LINUX32 --read-only --read-only-tmpfs \
         --security-opt=no-new-privileges --security-opt=mask=/proc/uptime --security-opt=unmask=/proc/acpi \
         --security-opt=seccomp=unconfined --sysctl=kernel.shmmni=100 --tmpfs=/more:size=1m --unsetenv-all --uts=private",
    ),
    (
        "names",
        "--add-host=foo:1.2.3.4 --chrootdirs=/www --dns=9.9.9.9 --dns-option=ndots:3 --dns-search=example.org --expose=80 \
         --hosts-file=/root/base-hosts --publish=8080:80 --publish-all",
    ),
    ("bare", "--no-hostname --no-hosts --passwd=false --systemd=always --volume=/root/words.env:/words:ro"),
    ("passing", "--rm --rmi"),
    ("terminal", "--init --init-path=/root/init --interactive --tty"),
    ("privileged", "--privileged --systemd=always --shm-size-systemd=2m"),
    (
        "healthy",
        "--health-cmd=true --health-interval=60s --health-log-destination=local --health-max-log-count=7 \
         --health-max-log-size=100 --health-on-failure=none --health-retries=4 --health-start-period=1s \
         --health-startup-cmd=true --health-startup-interval=60s --health-startup-retries=3 --health-startup-success=1 \
         --health-startup-timeout=5s --health-timeout=9s",
    ),
    ("trusted", "--secret=token,type=env,target=TOKEN --secret=key,mode=0440,target=the-key --secret=token"),
];

/// Containers that are refused: a name, its options, and what the refusal speaks of.
pub(crate) static REFUSED: &[(&str, &str, &str)] = &[
    ("with-device", "--device=/dev/null:/dev/nothing", "/dev/null"),
    ("with-the-hosts-pids", "--pid=host", "PidMode"),
    ("in-a-pod", "--pod=pod", "pod"),
    ("with-descriptors", "--preserve-fds=1", "--preserve-fds"),
    ("with-a-need", "--requires=needed", "depends on"),
    ("on-a-folder", "--rootfs", "folder"),
    ("with-anothers-volumes", "--volumes-from=giver", "volume"),
    ("with-its-output-elsewhere", "--log-driver=passthrough", "passthrough"),
    ("with-its-log-elsewhere", "--log-opt=path=/root/its.log", "/root/its.log"),
    ("with-an-overlay", "--volume=/root:/o:O", "/o"),
];

/// Fields of `podman inspect` that may differ after a move, and why. A prefix ends with a slash.
pub(crate) static MAY_DIFFER: &[(&str, &str)] = &[
    ("/Created", "Podman makes the container there anew"),
    ("/State/StartedAt", "Podman takes the time at which the container was made there"),
    ("/State/Pid", "process ids are the host's"),
    ("/State/ConmonPid", "process ids are the host's"),
    ("/State/RestoredAt", "it was restored"),
    ("/State/Restored", "it was restored"),
    ("/State/CheckpointPath", "it was restored"),
    ("/State/RestoreLog", "it was restored"),
    ("/GraphDriver/Data/", "layers are named by each host"),
    ("/MountLabel", "labels are drawn by each host"),
    ("/ProcessLabel", "labels are drawn by each host"),
    ("/Config/Secrets/0/ID", "a secret has an identity in each store"),
    ("/Config/Secrets/1/ID", "a secret has an identity in each store"),
    ("/lockNumber", "each Podman numbers its locks"),
    ("/State/Health/", "what was found out about its health so far stays; it is looked at anew there"),
    ("/State/Health/Log", "what was found out about its health so far stays; it is looked at anew there"),
];
