//! The virtual machine: QEMU's command line, its run under a deadline, and whether the processor can help.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, LabError};
use crate::guest::tools::Tools;
use crate::run::{machine_program, tail};

/// What a probe may take where the processor helps; it takes two seconds.
const PROBE: Duration = Duration::from_secs(12);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How the guest's code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// By the processor.
    Kvm,
    /// By QEMU, translated.
    None,
}

impl Acceleration {
    fn word(self) -> &'static str {
        match self {
            Acceleration::Kvm => "kvm",
            Acceleration::None => "none",
        }
    }

    /// What works on this machine. That the device is there does not mean that a kernel boots with it, so one is booted; the
    /// answer is kept in the cache until the machine is.
    pub(crate) fn of_machine(tools: &Tools, initrd: &Path, cache: &Path) -> Acceleration {
        if !Path::new("/dev/kvm").exists() {
            return Acceleration::None;
        }
        let known = cache.join("guest-acceleration");
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let answer = |how: Acceleration| format!("{boot} {}\n", how.word());
        let said = fs::read_to_string(&known).unwrap_or_default();
        if let Some(how) =
            [Acceleration::Kvm, Acceleration::None].into_iter().find(|how| answer(*how) == said)
        {
            return how;
        }
        let how = if probe(tools, initrd, cache) { Acceleration::Kvm } else { Acceleration::None };
        // Not kept is probed again.
        let _ = fs::write(&known, answer(how));
        how
    }
}

/// Whether a kernel boots with KVM.
fn probe(tools: &Tools, initrd: &Path, cache: &Path) -> bool {
    let Ok(folder) = super::scratch::Scratch::folder(cache) else { return false };
    let files = Ports::in_folder(&folder.folder);
    let mut qemu = qemu(tools, Acceleration::Kvm, initrd, "mose.probe", &files);
    let ended = wait(&mut qemu, Instant::now() + PROBE, &mut |_| {});
    ended.is_ok_and(|ended| ended) && files.status().booted
}

/// The guest's serial ports that are files on the machine.
#[derive(Debug)]
pub(crate) struct Ports {
    console: std::path::PathBuf,
    status: std::path::PathBuf,
    errors: std::path::PathBuf,
}

/// What a guest said on its status port.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Status {
    /// Its kernel runs.
    pub(crate) booted: bool,
    /// How long after that its script began, in seconds.
    pub(crate) running: Option<f64>,
    /// How its script ended.
    pub(crate) exit: Option<i32>,
}

impl Status {
    fn parse(text: &str) -> Status {
        let mut status = Status::default();
        for line in text.lines() {
            match line.trim().split_once(' ') {
                None if line.trim() == "booted" => status.booted = true,
                Some(("running", up)) => status.running = up.parse().ok(),
                Some(("exit", code)) => status.exit = code.parse().ok(),
                _ => {}
            }
        }
        status
    }
}

impl Ports {
    pub(crate) fn in_folder(folder: &Path) -> Ports {
        Ports {
            console: folder.join("console.log"),
            status: folder.join("status"),
            errors: folder.join("qemu.log"),
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status::parse(&fs::read_to_string(&self.status).unwrap_or_default())
    }

    /// The end of what QEMU and the guest's kernel said.
    pub(crate) fn said(&self) -> String {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (errors, console) = (read(&self.errors), read(&self.console));
        tail(&format!("{}\n{}", tail(&errors, 5), tail(&console, 25)), 30)
    }
}

/// QEMU with a kernel, an initrd and nothing else but serial ports: the console, the script's output (QEMU's own standard
/// output) and the status.
pub(crate) fn qemu(
    tools: &Tools,
    acceleration: Acceleration,
    initrd: &Path,
    kernel_arguments: &str,
    ports: &Ports,
) -> Command {
    let inner = tools.qemu();
    // Tied to us: it must not outlive who waits for it.
    let mut command = machine_program("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
    command.args(match acceleration {
        Acceleration::Kvm => ["-accel", "kvm", "-cpu", "host", "-smp", "2"],
        // An old processor: what newer ones can do costs more to imitate than it saves. And only one: with several, QEMU now and
        // then runs stale code where the kernel changes its own, as it does for each of CRIU's breakpoints, and the kernel dies.
        Acceleration::None => ["-accel", "tcg", "-cpu", "Nehalem", "-smp", "1"],
    });
    command.args(["-m", "3072", "-kernel"]).arg(tools.vmlinuz()).arg("-initrd").arg(initrd);
    command.arg("-append").arg(format!("console=ttyS0 panic=-1 mitigations=off quiet {kernel_arguments}"));
    command.arg("-serial").arg(format!("file:{}", ports.console.display()));
    command.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", ports.status.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    match fs::File::create(&ports.errors) {
        Ok(file) => command.stderr(file),
        Err(_) => command.stderr(Stdio::null()),
    };
    command
}

/// Adds a disk in raw format. What the guest writes to it is forgotten unless `keep`.
pub(crate) fn add_disk(qemu: &mut Command, id: &str, file: &Path, keep: bool) {
    let forget = if keep { "cache=unsafe" } else { "readonly=on" };
    qemu.arg("-drive").arg(format!("if=none,format=raw,id={id},{forget},file={}", file.display()));
    // Without MSI-X: now and then QEMU dies of an assertion about it (`msix_table_mmio_write`) while a kernel boots.
    qemu.arg("-device").arg(format!("virtio-blk-pci,drive={id},vectors=0"));
}

/// Runs it to its end; whether it ended before `deadline`. It is gone afterwards, either way.
pub(crate) fn wait(
    qemu: &mut Command,
    deadline: Instant,
    output: &mut dyn FnMut(&[u8]),
) -> Result<bool, LabError> {
    let mut child = Killed(qemu.spawn().doing("start QEMU")?);
    let stdout = child.0.stdout.take();
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let Some(mut stdout) = stdout else { return };
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let ended = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => output(&bytes),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
        if Instant::now() >= deadline {
            break false;
        }
    };
    drop(child);
    let _ = reader.join();
    while let Ok(bytes) = receiver.try_recv() {
        output(&bytes);
    }
    Ok(ended)
}

/// A process that is killed and reaped when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_port_tells_how_far_a_guest_came() {
        assert_eq!(Status::parse(""), Status::default());
        let ended = Status::parse("booted\r\nrunning 5.25\nexit 3\n");
        assert_eq!(ended, Status { booted: true, running: Some(5.25), exit: Some(3) });
        assert_eq!(Status::parse("booted\nexit").exit, None);
    }

    #[test]
    fn what_does_not_end_is_ended_and_what_it_said_is_kept() {
        let mut said = Vec::new();
        let mut command = machine_program("sh");
        command.args(["-c", "echo begun; exec sleep 1000"]).stdout(Stdio::piped());
        let deadline = Instant::now() + Duration::from_millis(300);
        let ended = wait(&mut command, deadline, &mut |bytes| said.extend_from_slice(bytes)).unwrap();
        assert!(!ended && said == b"begun\n");
        let mut command = machine_program("echo");
        command.arg("done").stdout(Stdio::piped());
        assert!(wait(&mut command, Instant::now() + Duration::from_secs(60), &mut |_| {}).unwrap());
    }
}
