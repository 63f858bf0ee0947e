//! Where a trial takes place: the service's container on the edge hosts, its clients on the mobile one.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::software::{Data, Software, other_users_can_be_dumped};
use crate::error::{Context, LabError};
use crate::lab::Lab;
use crate::run::run;
use crate::service::{CLIENT_NETNS, stop_service};

/// The hosts of a trial.
const EDGES: [&str; 2] = ["edge-a", "edge-b"];
/// The clients' host.
const CLIENTS: &str = "uav";
/// How long a service may take until it answers; initdb takes long where code is translated.
const READY: Duration = Duration::from_secs(300);
/// How long a connection may take to be opened, and an answer to come: more than TCP takes to send again what was lost several
/// times over.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// A service's place.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub(super) lab: &'a Lab,
    pub(super) software: &'static Software,
    address: Ipv4Addr,
}

impl<'a> Site<'a> {
    /// The place of a service that is alone in a lab.
    pub fn new(lab: &'a Lab, software: &'static Software) -> Self {
        Self { lab, software, address: Ipv4Addr::new(10, 77, 0, 20) }
    }

    /// Where the service listens.
    pub(super) fn endpoint(&self) -> SocketAddr {
        (self.address, self.software.port).into()
    }

    /// Gives the image to all hosts that need it.
    ///
    /// # Errors
    /// It could not be loaded.
    pub fn load_image(&self, archive: &Path) -> Result<(), LabError> {
        std::thread::scope(|scope| {
            let loads =
                [EDGES[0], EDGES[1], CLIENTS].map(|host| scope.spawn(move || self.load_on(host, archive)));
            loads
                .into_iter()
                .try_for_each(|load| load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn load_on(&self, host: &str, archive: &Path) -> Result<(), LabError> {
        let image = self.software.image();
        if self
            .lab
            .exec(host, &["podman", "image", "exists", &image])?
            .status()
            .doing("start podman")?
            .success()
        {
            return Ok(());
        }
        let mut load = self.lab.exec(host, &["podman", "load", "--quiet"])?;
        let child = load
            .stdin(File::open(archive).on("open", archive)?)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start podman load")?;
        finish(&format!("loading {image} on {host}"), child).map(drop)
    }

    /// Starts the service on a host, and waits until it answers.
    ///
    /// # Errors
    /// It did not start, or does not answer in time; then nothing of it is left.
    pub fn start(&self, host: &str) -> Result<(), LabError> {
        let name = self.software.name;
        self.remove()?;
        let started = self.start_container(host).and_then(|()| self.wait_listening(host));
        if started.is_err() {
            // The first failure is the one to tell.
            let _ = self.remove();
        }
        started.map_err(|error| LabError::Trial {
            what: format!("starting {name} on {host}"),
            why: error.to_string(),
        })
    }

    fn start_container(&self, host: &str) -> Result<(), LabError> {
        let name = self.software.name;
        let address = format!("{}/24", self.address);
        let mut attach = self.lab.exec(host, &["mose-agent", "attach", name, "--address", &address])?;
        run(&format!("attaching {name} to the overlay on {host}"), &mut attach)?;
        run(&format!("starting {name} on {host}"), &mut self.lab.exec(host, &self.podman_run())?).map(drop)
    }

    fn podman_run(&self) -> Vec<String> {
        let software = self.software;
        let mut argv =
            ["podman", "run", "--detach", "--name", software.name, "--network"].map(str::to_owned).to_vec();
        argv.push(format!("ns:/run/netns/{}", software.name));
        if other_users_can_be_dumped() {
            argv.extend(["--user".to_owned(), software.user.0.to_owned()]);
        }
        if let Data::Named(volume, path) = software.data {
            argv.extend(["--volume".to_owned(), format!("{volume}:{path}")]);
        }
        argv.extend(software.podman.iter().map(|&word| word.to_owned()));
        argv.push(software.image());
        argv
    }

    /// Waits until the service's port is open.
    fn wait_listening(&self, host: &str) -> Result<(), LabError> {
        let begun = Instant::now();
        loop {
            let connected =
                self.among_clients(|| TcpStream::connect_timeout(&self.endpoint(), Duration::from_secs(1)))?;
            match connected {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let mut look = self.lab.exec(
                        host,
                        &["podman", "inspect", "--format", "{{.State.Running}}", self.software.name],
                    )?;
                    let runs = run("looking at the container", &mut look)?.trim() == "true";
                    if !runs || begun.elapsed() > READY {
                        return Err(LabError::Trial {
                            what: format!("{} does not answer at {}", self.software.name, self.endpoint()),
                            why: format!("{error}; {}", self.said(host)),
                        });
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The end of what the container printed.
    fn said(&self, host: &str) -> String {
        let logs = self
            .lab
            .exec(host, &["podman", "logs", "--tail", "12", self.software.name])
            .map(|mut logs| logs.output());
        match logs {
            Ok(Ok(output)) => format!(
                "it said: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            _ => "its log cannot be read".to_owned(),
        }
    }

    /// Stops the container as an operator does and starts it again where it is: what is not in its volume is gone from memory.
    ///
    /// # Errors
    /// Podman refused, or the service does not answer in time.
    pub fn restart(&self, host: &str) -> Result<(), LabError> {
        let mut restart = self.lab.exec(host, &["podman", "restart", "--time", "30", self.software.name])?;
        run(&format!("restarting {} on {host}", self.software.name), &mut restart)?;
        self.wait_listening(host)
    }

    /// Removes the service and its volume from wherever they are. Harmless when they are gone.
    ///
    /// # Errors
    /// Podman or the agent refused.
    pub fn remove(&self) -> Result<(), LabError> {
        for host in EDGES {
            // Its volumes too: those without a name go with the container only when asked for.
            let name = self.software.name;
            let mut rm = self
                .lab
                .exec(host, &["podman", "rm", "--force", "--ignore", "--volumes", "--time", "0", name])?;
            run(&format!("removing the container {name} on {host}"), &mut rm)?;
            stop_service(self.lab, host, name)?;
            if let Data::Named(volume, _) = self.software.data {
                let mut rm = self.lab.exec(host, &["podman", "volume", "rm", "--force", volume])?;
                run(&format!("removing the volume {volume} on {host}"), &mut rm)?;
            }
        }
        Ok(())
    }

    /// Runs a command in the container; its output.
    pub(super) fn inside(&self, host: &str, what: &str, argv: &[&str]) -> Result<String, LabError> {
        run(what, &mut self.inside_command(host, &[], argv)?)
    }

    /// A command in the container, with further options of `podman exec`.
    pub(super) fn inside_command(
        &self,
        host: &str,
        options: &[&str],
        argv: &[&str],
    ) -> Result<Command, LabError> {
        self.lab.exec(host, &[&["podman", "exec"], options, &[self.software.name], argv].concat())
    }

    /// A program of the image as a client: in a container of its own among the clients, of this name.
    pub(super) fn client(&self, name: &str, argv: &[&str]) -> Result<Command, LabError> {
        let (netns, image) = (format!("ns:/run/netns/{CLIENT_NETNS}"), self.software.image());
        let podman =
            ["podman", "run", "--rm", "--interactive", "--replace", "--name", name, "--network", &netns];
        self.lab.exec(
            CLIENTS,
            &[&podman, &["--image-volume", "ignore", "--log-driver", "none", &image][..], argv].concat(),
        )
    }

    /// Sends a client's program a signal, such as `TERM`.
    pub(super) fn signal_client(&self, name: &str, signal: &str) -> Result<(), LabError> {
        let mut kill = self.lab.exec(CLIENTS, &["podman", "kill", "--signal", signal, name])?;
        run(&format!("sending SIG{signal} to {name}"), &mut kill).map(drop)
    }

    /// Runs something in a thread of its own in the clients' network namespace.
    pub(super) fn among_clients<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let netns = self.clients_netns()?;
        std::thread::scope(|scope| {
            let ran = scope.spawn(move || enter(&netns).map(|()| what())).join();
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The clients' network namespace.
    pub(super) fn clients_netns(&self) -> Result<File, LabError> {
        let path = format!("/proc/{}/root/run/netns/{CLIENT_NETNS}", self.lab.host_pid(CLIENTS)?);
        File::open(&path).on("open the clients' network namespace", &path)
    }
}

/// Takes the calling thread, and it alone, into a network namespace.
pub(super) fn enter(netns: &File) -> Result<(), LabError> {
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)
        .doing("enter the clients' network namespace")
}

/// Waits for a program that must end well; its output.
pub(super) fn finish(what: &str, child: Child) -> Result<String, LabError> {
    let output = child.wait_with_output().doing(what)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(LabError::Trial { what: what.to_owned(), why })
}
