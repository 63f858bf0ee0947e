//! What happens at the destination while it rehearses: which packets of the service's address are on its devices, and what CRIU's own
//! log says of the restore.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_lab::Lab;

use super::left::Way;
use crate::faults::host::outside;

/// Listens to all devices of the host, until nothing more is to be read: so it ends with whoever started it.
const CAPTURE: &str = r#"tcpdump -p -i any -y LINUX_SLL2 -Z root -nn -q -t -l --immediate-mode src host "$1" &
read -r end; kill -TERM $!; wait $!"#;

/// What tcpdump says once it listens.
const LISTENING: &str = "listening on";

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(10);

/// How often it is looked whether CRIU has begun its log, which goes away with the container.
const LOOK: Duration = Duration::from_millis(2);

/// CRIU says so when it lets go of what it has restored.
const RESUMED: [&str; 2] = ["Running pre-resume scripts", "Tasks resumed"];

/// CRIU says so when all is restored, or when it gives up.
const READ: [&str; 2] = ["Running post-restore scripts", "Restoring FAILED"];

/// What was heard of a rehearsal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Packets that left the host through a tunnel.
    pub(super) sent: u64,
    /// Packets that came out of an endpoint and went nowhere.
    pub(super) kept_in: u64,
    /// The first few of those sent.
    pub(super) examples: Vec<String>,
    /// Whether CRIU's log was read.
    pub(super) restore_read: bool,
    /// Whether it says that something was let go on.
    pub(super) resumed: bool,
}

/// A watch under way, to be ended.
pub(super) struct Watch {
    capture: Child,
    stdin: Option<ChildStdin>,
    packets: JoinHandle<Packets>,
    said: JoinHandle<Vec<String>>,
    over: Arc<AtomicBool>,
    log: JoinHandle<Option<String>>,
}

impl Watch {
    /// Begins to watch the destination.
    pub(super) fn begin(lab: &Lab, way: &Way, address: Ipv4Addr) -> color_eyre::Result<Self> {
        let path = format!("/var/lib/containers/storage/overlay-containers/{}/userdata/restore.log", way.id);
        let path = outside(lab, way.to, &path)?;
        let mut command = lab.exec(way.to, &["sh", "-c", CAPTURE, "sh", &address.to_string()])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut capture = command.spawn().wrap_err("packets cannot be captured")?;
        let stdin = capture.stdin.take();
        let (Some(stdout), Some(stderr)) = (capture.stdout.take(), capture.stderr.take()) else {
            return Err(eyre!("the capture has no output"));
        };
        let packets = std::thread::spawn(move || Packets::read(BufReader::new(stdout)));
        let (ready, is_ready) = channel();
        let said = std::thread::spawn(move || complaints(BufReader::new(stderr), &ready));
        let over = Arc::new(AtomicBool::new(false));
        let log = std::thread::spawn({
            let over = Arc::clone(&over);
            move || follow(&path, &over)
        });
        let watch = Self { capture, stdin, packets, said, over, log };
        watch.listens(&is_ready)
    }

    fn listens(self, ready: &Receiver<()>) -> color_eyre::Result<Self> {
        match ready.recv_timeout(READY) {
            Ok(()) => Ok(self),
            Err(_) => {
                let error = self.end().err();
                Err(error.unwrap_or_else(|| eyre!("tcpdump did not listen within {READY:?}")))
            }
        }
    }

    /// Ends it; what was heard.
    pub(super) fn end(self) -> color_eyre::Result<Heard> {
        let Self { mut capture, stdin, packets, said, over, log } = self;
        drop(stdin);
        over.store(true, Ordering::Relaxed);
        let status = capture.wait().wrap_err("the capture cannot be waited for")?;
        let lost = || eyre!("a thread of the watch was lost");
        let packets = packets.join().map_err(|_| lost())?;
        let said = said.join().map_err(|_| lost())?;
        let log = log.join().map_err(|_| lost())?;
        if !status.success() {
            return Err(eyre!("tcpdump ended with {status}: {}", said.join("; ")));
        }
        let missed = missed(&said);
        if missed > 0 {
            return Err(eyre!("the capture missed {missed} packets: nobody can say what was sent"));
        }
        let says =
            |words: &[&str]| log.as_ref().is_some_and(|log| words.iter().any(|&words| log.contains(words)));
        Ok(Heard {
            sent: packets.sent,
            kept_in: packets.kept_in,
            examples: packets.examples,
            restore_read: says(&READ),
            resumed: says(&RESUMED),
        })
    }
}

/// What tcpdump printed, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Packets {
    sent: u64,
    kept_in: u64,
    examples: Vec<String>,
}

impl Packets {
    fn read(lines: impl BufRead) -> Self {
        let mut packets = Self::default();
        for line in lines.lines().map_while(Result::ok) {
            let mut words = line.split_whitespace();
            let (device, direction) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let outward = direction == "Out";
            if device.starts_with("mt-") && outward {
                packets.sent += 1;
                if packets.examples.len() < 3 {
                    packets.examples.push(line);
                }
            } else if device.starts_with("mo-") && !outward {
                // What an endpoint says comes in at the host's end of its device.
                packets.kept_in += 1;
            }
        }
        packets
    }
}

fn complaints(lines: impl BufRead, ready: &Sender<()>) -> Vec<String> {
    let mut said = Vec::new();
    for line in lines.lines().map_while(Result::ok) {
        if line.contains(LISTENING) {
            // Nobody may wait any more.
            let _ = ready.send(());
        }
        said.push(line);
    }
    said
}

/// How many packets the kernel dropped before tcpdump saw them.
fn missed(said: &[String]) -> u64 {
    let count = said.iter().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The whole of a file that is made, and taken away, before it is over.
fn follow(path: &Path, over: &AtomicBool) -> Option<String> {
    let mut file = loop {
        match File::open(path) {
            Ok(file) => break file,
            Err(_) if over.load(Ordering::Relaxed) => return None,
            Err(_) => std::thread::sleep(LOOK),
        }
    };
    // What is open stays readable, wherever its name has gone.
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
    let mut log = Vec::new();
    file.read_to_end(&mut log).ok()?;
    Some(String::from_utf8_lossy(&log).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_out_by_a_tunnel_is_sent() {
        let printed = "mo-1a2b3c4d P   IP 10.77.0.20.6379 > 10.77.0.10.40000: tcp 0\n\
                       mt-1a2b3c4d Out ARP, Request who-has 10.77.0.10 tell 10.77.0.20, length 28\n\
                       mt-1a2b3c4d In  IP 10.77.0.20.6379 > 10.77.0.10.40000: tcp 0\n\
                       mo-1a2b3c4d Out IP 10.77.0.20.6379 > 10.77.0.11.40000: tcp 0\n";
        let packets = Packets::read(printed.as_bytes());
        assert_eq!((packets.sent, packets.kept_in), (1, 1));
        assert!(packets.examples[0].contains("who-has"));
    }

    #[test]
    fn what_the_kernel_dropped_is_known() {
        let said = ["4 packets received by filter", "3 packets dropped by kernel"].map(str::to_owned);
        assert_eq!(missed(&said), 3);
        assert_eq!(missed(&said[..1]), 0);
    }

    #[test]
    fn a_log_is_read_to_its_end_also_where_it_was_taken_away() {
        let path = std::env::temp_dir().join(format!("mose-restore-log-{}", std::process::id()));
        let over = Arc::new(AtomicBool::new(false));
        let read = std::thread::spawn({
            let (path, over) = (path.clone(), Arc::clone(&over));
            move || follow(&path, &over)
        });
        std::fs::write(&path, "Running post-restore scripts\n").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_file(&path).unwrap();
        over.store(true, Ordering::Relaxed);
        assert!(read.join().unwrap().is_some_and(|log| log.contains(READ[0])));
        assert_eq!(follow(&path, &over), None);
    }
}
