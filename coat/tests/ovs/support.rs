//! Hosts for the tests, in this one process: each is a thread in a network and a mount namespace of its own, with a tokio runtime
//! whose workers inherit them, and an Open vSwitch of its own. An underlay joins them: a bridge in one more namespace.

use std::{
    future::Future,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mose_coat::{EndpointSpec, Overlay, OvsConfig, OvsOverlay, Route};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// One test at a time: they measure time.
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

fn schema() -> Option<PathBuf> {
    ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// Says what this machine lacks for these tests; `true` if it lacks nothing.
pub(crate) fn possible() -> bool {
    let mut missing: Vec<String> = ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-appctl", "ip"]
        .iter()
        .filter(|name| program(name).is_none())
        .map(|name| format!("the program {name}"))
        .collect();
    if schema().is_none() {
        missing.push("vswitch.ovsschema".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    let required = std::env::var("MOSE_REQUIRE_LAB").is_ok_and(|value| value == "1");
    assert!(!required, "MOSE_REQUIRE_LAB=1, but this machine lacks {missing}");
    eprintln!(
        "SKIPPED: this machine lacks {missing} (apt-get install openvswitch-switch iproute2; run as root)"
    );
    false
}

fn ip(arguments: &str) {
    let done = Command::new(program("ip").unwrap()).args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A thread in namespaces of its own.
pub(crate) struct Place {
    runtime: tokio::runtime::Handle,
    tid: i32,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    fn new() -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            ready.send((runtime.handle().clone(), nix::unistd::gettid().as_raw())).unwrap();
            // Ends when the sender is dropped.
            let _ = stopped.recv();
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        let (runtime, tid) = started.recv().unwrap();
        Self { runtime, tid, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs something asynchronous here.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.spawn(work).await.unwrap()
    }

    /// Runs something that blocks here.
    pub(crate) async fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // From one of this place's workers: a thread of the pool is where the thread is that made it.
        self.run(async move { tokio::task::spawn_blocking(work).await.unwrap() }).await
    }

    /// Runs something inside an endpoint of this host: sockets made there stay there.
    pub(crate) async fn inside<T: Send + 'static>(
        &self,
        endpoint: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let path = format!("/run/netns/{endpoint}");
        let enter = move || {
            let namespace = std::fs::File::open(path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        self.block(move || std::thread::spawn(enter).join().unwrap()).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A process that ends with its owner.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(socket: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A host with its switch.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) underlay: Ipv4Addr,
    overlay: Option<Arc<OvsOverlay>>,
    pub(crate) rundir: PathBuf,
    vswitchd: Option<Daemon>,
    ovsdb: Option<Daemon>,
    pub(crate) place: Place,
}

impl Host {
    async fn spawn(&self, name: &str, arguments: Vec<String>) -> Daemon {
        let log = std::fs::File::create(self.rundir.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(program(name).unwrap());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, &self.rundir);
        }
        self.place.block(move || Daemon(command.spawn().unwrap())).await
    }

    pub(crate) async fn start_ovsdb(&mut self) {
        let run = self.rundir.display();
        let database = self.rundir.join("conf.db");
        if !database.exists() {
            let made = Command::new(program("ovsdb-tool").unwrap())
                .arg("create")
                .args([&database, &schema().unwrap()])
                .status()
                .unwrap();
            assert!(made.success());
        }
        let arguments = vec![
            database.display().to_string(),
            format!("--remote=punix:{run}/db.sock"),
            format!("--unixctl={run}/ovsdb.ctl"),
        ];
        self.ovsdb = Some(self.spawn("ovsdb-server", arguments).await);
        wait_for(&self.rundir.join("db.sock"));
    }

    pub(crate) async fn start_vswitchd(&mut self) {
        let run = self.rundir.display();
        let arguments = vec![format!("unix:{run}/db.sock"), format!("--unixctl={run}/vswitchd.ctl")];
        self.vswitchd = Some(self.spawn("ovs-vswitchd", arguments).await);
    }

    /// Returns once the switch acts by its flows alone, and by nothing that it remembers of earlier ones (ovs-vswitchd(8)).
    pub(crate) fn forget_earlier_flows(&self) {
        let control = self.rundir.join("vswitchd.ctl");
        let mut wait = Command::new(program("ovs-appctl").unwrap());
        assert!(wait.arg("-t").arg(control).arg("revalidator/wait").status().unwrap().success());
    }

    pub(crate) fn stop_vswitchd(&mut self) {
        self.vswitchd = None;
    }

    pub(crate) fn config(&self) -> OvsConfig {
        OvsConfig { rundir: self.rundir.clone(), ..OvsConfig::new(self.underlay) }
    }

    pub(crate) async fn start_overlay(&mut self, config: OvsConfig) {
        let overlay = self.place.run(OvsOverlay::start(config)).await.unwrap();
        self.overlay = Some(Arc::new(overlay));
    }

    /// Ends the overlay as the end of an agent would.
    pub(crate) async fn stop_overlay(&mut self) {
        let overlay = self.overlay.take();
        self.place.run(async move { drop(overlay) }).await;
    }

    /// Does something with this host's overlay, on this host.
    pub(crate) async fn with<T, F>(&self, work: impl FnOnce(Arc<OvsOverlay>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.place.run(work(Arc::clone(self.overlay.as_ref().unwrap()))).await
    }

    pub(crate) async fn attach(&self, spec: &EndpointSpec, epoch: u64) -> mose_coat::Endpoint {
        let spec = spec.clone();
        self.with(|o| async move { o.attach(&spec, epoch).await.unwrap() }).await
    }

    pub(crate) async fn route(&self, address: Ipv4Addr, route: Route, epoch: u64) -> mose_coat::Change {
        self.with(|o| async move { o.route(address, route, epoch).await.unwrap() }).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let overlay = self.overlay.take();
        let _entered = self.place.runtime.enter();
        drop(overlay);
    }
}

/// Hosts on one underlay.
pub(crate) struct Bed {
    pub(crate) hosts: Vec<Host>,
    _switch: Place,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// So many hosts, each with Open vSwitch running, overlay started, and tunnels to all others.
    pub(crate) async fn new(count: u8) -> Self {
        let mut bed = Self::without_overlay(count).await;
        for host in &mut bed.hosts {
            host.start_ovsdb().await;
            host.start_vswitchd().await;
            let config = host.config();
            host.start_overlay(config).await;
        }
        for host in &bed.hosts {
            for peer in bed.hosts.iter().filter(|peer| peer.name != host.name) {
                let (name, remote) = (peer.name.clone(), peer.underlay);
                host.with(|o| async move { o.add_tunnel(&name, remote).await.unwrap() }).await;
            }
        }
        bed
    }

    /// So many hosts on an underlay, and nothing running on them.
    pub(crate) async fn without_overlay(count: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let switch = Place::new();
        switch.block(|| ip("link add ul type bridge")).await;
        switch.block(|| ip("link set ul up")).await;
        let mut hosts = Vec::new();
        for n in 1..=count {
            let name = char::from(b'a' + n - 1).to_string();
            let rundir = folder.path().join(&name);
            std::fs::create_dir(&rundir).unwrap();
            let place = Place::new();
            let underlay = Ipv4Addr::new(192, 168, 77, n);
            let tid = place.tid;
            switch
                .block(move || {
                    ip(&format!("link add h{n} type veth peer name u0 netns {tid}"));
                    ip(&format!("link set h{n} master ul up"));
                })
                .await;
            place
                .block(move || {
                    ip("link set lo up");
                    ip("link set u0 up");
                    ip(&format!("addr add {underlay}/24 dev u0"));
                })
                .await;
            hosts.push(Host { name, underlay, overlay: None, rundir, vswitchd: None, ovsdb: None, place });
        }
        Self { hosts, _switch: switch, _folder: folder }
    }
}
