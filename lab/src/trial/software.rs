//! The software that is tried, as data: its packages, what its image declares, what it runs, where its data lies. As the
//! images that everybody uses have it: Redis and Mosquitto declare volumes, PostgreSQL runs under a user of its own.

use crate::error::LabError;

/// Where a service's data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// A volume that the image declares: Podman makes one without a name.
    Declared(&'static str),
    /// A volume with a name: the name, and where the container sees it.
    Named(&'static str, &'static str),
}

impl Data {
    /// Where the container sees it.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Data::Declared(path) | Data::Named(_, path) => path,
        }
    }
}

/// One piece of software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    /// Its name; its container's and its network namespace's too.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Debian's packages; what they depend on comes with them.
    pub(super) packages: &'static [&'static str],
    /// What of the packages is left out of the image.
    pub(super) without: &'static [&'static str],
    /// Further files in the image: path and content.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Its data.
    pub(super) data: Data,
    /// The user it runs as, and its number. Everything below the data's folder is that user's.
    pub(super) user: (&'static str, u32),
    /// It will not run as root.
    pub(super) never_root: bool,
    /// What the container runs.
    pub(super) command: &'static [&'static str],
    /// The signal that asks it to end.
    pub(super) stop_signal: &'static str,
    /// The TCP port it listens on.
    pub(super) port: u16,
    /// Further options of `podman run`.
    pub(super) podman: &'static [&'static str],
}

const LEDGER: &str = include_str!("ledger.py");
const MOSQUITTO: &str = "listener 1883 0.0.0.0\nallow_anonymous true\nuser root\npersistence true\n\
    persistence_location /mosquitto/data/\nmax_queued_messages 0\nmax_inflight_messages 100\nlog_dest stderr\n";
const NGINX: &str = "user root;\ndaemon off;\nworker_processes 2;\npid /tmp/nginx.pid;\nerror_log stderr warn;\n\
    events { worker_connections 256; }\nhttp {\n  access_log off;\n  sendfile on;\n  send_timeout 1h;\n  keepalive_timeout 1h;\n  client_body_temp_path /tmp/body;\n  \
    proxy_temp_path /tmp/proxy;\n  fastcgi_temp_path /tmp/fastcgi;\n  uwsgi_temp_path /tmp/uwsgi;\n  scgi_temp_path /tmp/scgi;\n  \
    server { listen 8080; root /srv; }\n}\n";
/// As the entry point of the image that everybody uses: an empty folder becomes a cluster, with checksums on its pages.
const POSTGRES: &str = "set -e\nb=/usr/lib/postgresql/17/bin\nif [ ! -s \"$PGDATA/PG_VERSION\" ]; then\n  \
    $b/initdb -D \"$PGDATA\" -U postgres -A trust -k --locale C.UTF-8 --no-sync\n  \
    echo 'host all all all trust' >>\"$PGDATA/pg_hba.conf\"\nfi\n\
    exec $b/postgres -D \"$PGDATA\" -c 'listen_addresses=*' -c unix_socket_directories=/tmp -c shared_buffers=64MB\n";

/// All software, in the order in which it is tried.
pub static SOFTWARE: [Software; 5] = [
    Software {
        name: "redis",
        what: "Redis with an append-only file, under clients that write and read back",
        packages: &["redis-server", "redis-tools"],
        data: Data::Declared("/data"),
        user: ("redis", 999),
        command: &[
            "redis-server",
            "--dir",
            "/data",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--appendonly",
            "yes",
            "--auto-aof-rewrite-min-size",
            "2mb",
        ],
        port: 6379,
        ..EMPTY
    },
    Software {
        name: "mosquitto",
        what: "Mosquitto with persistence, under publishers and subscribers with QoS 1",
        packages: &["mosquitto", "mosquitto-clients"],
        files: &[("/etc/mosquitto.conf", MOSQUITTO)],
        data: Data::Declared("/mosquitto/data"),
        user: ("mosquitto", 1883),
        command: &["mosquitto", "-c", "/etc/mosquitto.conf"],
        port: 1883,
        ..EMPTY
    },
    Software {
        name: "nginx",
        what: "nginx that sends a file to 20 clients",
        packages: &["nginx"],
        files: &[("/etc/nginx/nginx.conf", NGINX)],
        data: Data::Named("nginx-files", "/srv"),
        user: ("nginx", 101),
        command: &["nginx"],
        stop_signal: "SIGQUIT",
        port: 8080,
        ..EMPTY
    },
    Software {
        name: "sqlite",
        what: "a ledger in SQLite with a write-ahead log, in two processes, under clients that write and read back",
        packages: &["python3-minimal", "libpython3-stdlib"],
        files: &[("/usr/lib/ledger.py", LEDGER)],
        data: Data::Named("sqlite-data", "/data"),
        user: ("ledger", 1000),
        command: &["python3", "/usr/lib/ledger.py", "serve", "/data/ledger.db", "9000"],
        port: 9000,
        ..EMPTY
    },
    Software {
        name: "postgres",
        what: "PostgreSQL 17 under pgbench with 8 clients",
        packages: &["postgresql-17"],
        without: &[
            "usr/lib/llvm*",
            "usr/share/perl",
            "usr/lib/x86_64-linux-gnu/perl",
            "usr/lib/x86_64-linux-gnu/libLLVM*",
        ],
        files: &[("/usr/lib/postgres.sh", POSTGRES)],
        data: Data::Named("postgres-data", "/var/lib/postgresql/data"),
        user: ("postgres", 999),
        never_root: true,
        command: &["sh", "/usr/lib/postgres.sh"],
        stop_signal: "SIGINT",
        port: 5432,
        podman: &["--shm-size", "256m", "--env", "PGDATA=/var/lib/postgresql/data"],
    },
];

const EMPTY: Software = Software {
    name: "",
    what: "",
    packages: &[],
    without: &[],
    files: &[],
    data: Data::Declared(""),
    user: ("", 0),
    never_root: false,
    command: &[],
    stop_signal: "SIGTERM",
    port: 0,
    podman: &[],
};

impl Software {
    /// The software of this name.
    ///
    /// # Errors
    /// There is none; the error lists what there is.
    pub fn named(name: &str) -> Result<&'static Software, LabError> {
        SOFTWARE.iter().find(|software| software.name == name).ok_or_else(|| LabError::UnknownSoftware {
            name: name.to_owned(),
            known: SOFTWARE.map(|software| software.name).join(", "),
        })
    }

    /// Its image. Under a name of its own: some workload's image may bear its plain name.
    pub(super) fn image(&self) -> String {
        format!("localhost/trial/{}", self.name)
    }

    /// Whether this machine's lab can move it. Where root has not the capability to read the limits of processes of others, CRIU
    /// cannot dump any but root's own.
    ///
    /// # Errors
    /// It runs as a user of its own, and that cannot be dumped here; the remedy is in the error.
    pub fn can_move_here(&self) -> Result<(), LabError> {
        if self.never_root && !other_users_can_be_dumped() {
            return Err(LabError::Invalid {
                what: format!("{} runs as a user of its own", self.name),
                reason: "processes that are not root's cannot be dumped on this machine (CAP_SYS_RESOURCE is missing); \
                         move it in a guest: mose lab services --guest"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// Whether CRIU can dump processes that are not root's: it reads and sets their limits.
pub(super) fn other_users_can_be_dumped() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> CAP_SYS_RESOURCE & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_software_is_answered_with_what_there_is() {
        let error = Software::named("oracle").unwrap_err().to_string();
        assert!(SOFTWARE.iter().all(|software| error.contains(software.name)), "{error}");
    }

    #[test]
    fn every_row_says_where_its_data_lies_whose_it_is_and_what_runs() {
        for software in SOFTWARE {
            assert!(software.data.path().starts_with('/'), "{software:?}");
            assert!(software.user.1 > 0 && software.port > 1024, "{software:?}");
            assert!(!software.command.is_empty() && !software.packages.is_empty(), "{software:?}");
        }
    }
}
