//! Letting a fault strike, and undoing it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use color_eyre::eyre::{WrapErr, eyre};
use mose_lab::{Lab, UNDERLAY_INTERFACE};
use nix::sys::signal::Signal;

use super::cell::{Cell, Daemon, Fault, Full, Harm, Side, Span, Way};
use super::host::{daemon_pid, outside, sh, signal, try_sh};
use super::wrap::Wrapped;
use crate::testbed;

/// How long something is stopped at most that is stopped until the migration has ended.
const MINUTE: Duration = Duration::from_secs(60);

/// What the link is slowed to.
const SLOW: &str = "100kbit";

/// Room for CRIU's images, far less than they need; and for journals: a page, which is filled.
const IMAGES_ROOM: &str = "4m";

/// Shell text that expands to the PID of the idle process beside the counter.
const IDLING: &str = "$(for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^tail -f /dev/null' && echo ${p#/proc/}; done)";

/// The hosts of a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hosts {
    pub(crate) source: &'static str,
    pub(crate) destination: &'static str,
}

impl Hosts {
    pub(crate) const fn of(self, side: Side) -> &'static str {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }
}

/// Undoes what a fault did, when its time has come or this is dropped.
#[must_use]
pub(crate) struct Undo<'a> {
    what: Option<Box<dyn FnOnce() + Send + 'a>>,
    /// When; `None`: when the cell is over.
    pub(crate) after: Option<Span>,
}

impl<'a> Undo<'a> {
    fn new(after: Option<Span>, what: impl FnOnce() + Send + 'a) -> Self {
        Self { what: Some(Box::new(what)), after }
    }

    /// Nothing has to be undone.
    pub(crate) const fn nothing() -> Self {
        Self { what: None, after: None }
    }

    /// Waits for its time, and undoes it.
    pub(crate) fn in_time(mut self, mut over: impl FnMut() -> bool) -> Option<Self> {
        let begun = Instant::now();
        let time = match self.after {
            None => return Some(self),
            Some(Span::Seconds(seconds)) => Duration::from_secs(seconds),
            Some(Span::UntilEnd) => MINUTE,
        };
        let early = self.after == Some(Span::UntilEnd);
        while begun.elapsed() < time && !(early && over()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.now();
        None
    }

    fn now(&mut self) {
        if let Some(what) = self.what.take() {
            what();
        }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.now();
    }
}

/// What is found out before the order, so that the fault strikes at once.
pub(crate) struct Aim {
    daemon: Option<i32>,
}

impl Aim {
    pub(crate) fn at(lab: &Lab, cell: &Cell, hosts: Hosts) -> Self {
        let who = match cell.fault {
            Fault::Killed(who) | Fault::Stopped(who, _) => Some(who),
            Fault::TornJournal | Fault::Settled { keep: true } => Some(Daemon::Agent),
            _ => None,
        };
        Self { daemon: who.and_then(|who| daemon_pid(lab, hosts.of(cell.side), who.name())) }
    }

    fn daemon(&self) -> color_eyre::Result<i32> {
        self.daemon.ok_or_else(|| eyre!("the daemon does not run"))
    }
}

/// Lets it strike. `came` is the process that came to the moment, where a script waits there.
pub(crate) fn strike<'a>(
    lab: &'a Lab,
    cell: &Cell,
    hosts: Hosts,
    aim: &Aim,
    wrapped: Option<&Wrapped<'_>>,
    came: Option<i32>,
) -> color_eyre::Result<Undo<'a>> {
    let host = hosts.of(cell.side);
    let came = || came.ok_or_else(|| eyre!("no process came to the moment"));
    Ok(match cell.fault {
        Fault::Killed(_) => {
            signal(aim.daemon()?, Signal::SIGKILL);
            Undo::nothing()
        }
        Fault::Stopped(_, span) => {
            let pid = aim.daemon()?;
            signal(pid, Signal::SIGSTOP);
            Undo::new(Some(span), move || signal(pid, Signal::SIGCONT))
        }
        Fault::Criu(harm) => criu(lab, host, harm, came()?)?,
        Fault::Runc(harm) => {
            let (pid, script) = (came()?, wrapped.ok_or_else(|| eyre!("runc was not replaced"))?);
            match harm {
                Harm::Fails => script.then("exit 1\n")?,
                Harm::Hangs => script.then("kill -STOP $$\n")?,
            }
            // One that hangs for ever would be taken for something left over.
            Undo::new(None, move || try_sh(lab, host, &format!("kill -KILL {pid} 2>/dev/null; true")))
        }
        Fault::ProcessStopped => {
            sh(lab, host, &format!("kill -STOP {IDLING}"))?;
            let hosts = [hosts.source, hosts.destination];
            let go_on = format!("pid={IDLING}; [ -z \"$pid\" ] || kill -CONT $pid");
            Undo::new(None, move || hosts.iter().for_each(|host| try_sh(lab, host, &go_on)))
        }
        Fault::DiskFull(full) => disk_full(lab, cell.side, host, full)?,
        Fault::TornJournal => torn_journal(lab, host, aim.daemon()?)?,
        Fault::ImageTruncated => {
            let half = "for image in /var/lib/containers/storage/overlay-containers/*/userdata/checkpoint/pages-*.img; do \
                truncate -s $(($(stat -c %s $image) / 2)) $image; done";
            sh(lab, host, half)?;
            Undo::nothing()
        }
        Fault::LinkCut(way, span) => cut(lab, host, way, Some(span))?,
        Fault::LinkSlowed(span) => {
            let rate = lab.config().edge_link;
            testbed::open()?.set_edge_link(SLOW.parse()?)?;
            Undo::new(Some(span), move || {
                let back = testbed::open().and_then(|mut lab| Ok(lab.set_edge_link(rate)?));
                if let Err(error) = back {
                    tracing::warn!(%error, "the link is still slow");
                }
            })
        }
        Fault::Settled { keep: true } => {
            lab.hold_daemon(host, Daemon::Agent.name(), true)?;
            signal(aim.daemon()?, Signal::SIGKILL);
            Undo::new(None, move || {
                if let Err(error) = lab.hold_daemon(host, Daemon::Agent.name(), false) {
                    tracing::warn!(%error, "the agent is held down");
                }
            })
        }
        Fault::Settled { keep: false } => cut(lab, host, Way::Both, None)?,
        // Requests: whoever orders makes them.
        Fault::OrderedTwice | Fault::Aborted => Undo::nothing(),
    })
}

/// Checks, after the migration and before the fault is undone, that a stopped process is still stopped; returns a complaint if not.
pub(crate) fn amiss(lab: &Lab, cell: &Cell, hosts: Hosts) -> Option<String> {
    if cell.fault != Fault::ProcessStopped {
        return None;
    }
    let states = [hosts.source, hosts.destination].map(|host| {
        let state = format!("for pid in {IDLING}; do awk '/^State:/ {{ print $2 }}' /proc/$pid/status; done");
        sh(lab, host, &state).unwrap_or_else(|error| error.to_string()).trim().to_owned()
    });
    let said = states.concat();
    (said != "T").then(|| format!("the stopped process is in state {said:?} after the migration"))
}

fn criu<'a>(lab: &'a Lab, host: &'static str, harm: Harm, pid: i32) -> color_eyre::Result<Undo<'a>> {
    if harm == Harm::Fails {
        sh(lab, host, &format!("kill -KILL {pid}"))?;
        return Ok(Undo::nothing());
    }
    sh(lab, host, &format!("kill -STOP {pid}"))?;
    // It may have been woken or killed meanwhile, and its id be another's.
    let wake = format!("case $(cat /proc/{pid}/comm 2>/dev/null) in criu*) kill -CONT {pid};; esac; true");
    Ok(Undo::new(None, move || try_sh(lab, host, &wake)))
}

fn cut<'a>(lab: &'a Lab, host: &'static str, way: Way, after: Option<Span>) -> color_eyre::Result<Undo<'a>> {
    let rule = |hook: &str, word: &str| {
        format!(
            "nft 'table inet mose-fault {{ chain c {{ type filter hook {hook} priority -300; {word} \"{UNDERLAY_INTERFACE}\" drop; }}; }}'"
        )
    };
    let (down, up) = match way {
        Way::Both => {
            (format!("ip link set {UNDERLAY_INTERFACE} down"), format!("ip link set {UNDERLAY_INTERFACE} up"))
        }
        Way::In => (rule("input", "iifname"), "nft delete table inet mose-fault".to_owned()),
        Way::Out => (rule("output", "oifname"), "nft delete table inet mose-fault".to_owned()),
    };
    sh(lab, host, &down)?;
    Ok(Undo::new(after, move || try_sh(lab, host, &up)))
}

/// A small file system over a folder that a hand-over writes to.
fn disk_full<'a>(lab: &'a Lab, side: Side, host: &'static str, full: Full) -> color_eyre::Result<Undo<'a>> {
    const STORE: &str = "/var/lib/containers/storage/overlay-containers";
    let (folder, mount, after) = match (full, side) {
        (Full::Journal, _) => (
            "/var/lib/mose/journal".to_owned(),
            "mount -t tmpfs -o size=4k,mode=755 mose-fault $folder && { head -c 65536 /dev/zero > $folder/.full 2>/dev/null; true; }",
            "",
        ),
        // The folder is made beforehand: Podman takes one that is there.
        (Full::Images, Side::Source) => (
            format!("$(ls -d {STORE}/*/userdata | head -n 1)/checkpoint"),
            "mkdir -p $folder && mount -t tmpfs -o size=ROOM,mode=700 mose-fault $folder",
            "; rmdir $folder 2>/dev/null; true",
        ),
        // No container is there, so that nothing is hidden.
        (Full::Images, Side::Destination) => {
            (STORE.to_owned(), "mount -t tmpfs -o size=ROOM,mode=700 mose-fault $folder", "")
        }
    };
    let said =
        sh(lab, host, &format!("folder={folder}; {} && echo $folder", mount.replace("ROOM", IMAGES_ROOM)))?;
    let folder = said.trim().to_owned();
    let undo = format!("folder={folder}; umount -l $folder{after}");
    Ok(Undo::new(None, move || try_sh(lab, host, &undo)))
}

/// Kills the agent and leaves in its journal what a crash leaves that comes in the middle of a write: a line without its end. The lines
/// before it were on disk before they were acted on, and stay.
fn torn_journal<'a>(lab: &'a Lab, host: &'static str, pid: i32) -> color_eyre::Result<Undo<'a>> {
    let agent = Daemon::Agent.name();
    lab.hold_daemon(host, agent, true)?;
    signal(pid, Signal::SIGKILL);
    let torn = tear(lab, host);
    lab.hold_daemon(host, agent, false)?;
    torn.map(|()| Undo::nothing())
}

fn tear(lab: &Lab, host: &str) -> color_eyre::Result<()> {
    let folder = outside(lab, host, "/var/lib/mose/journal")?;
    let mut torn = 0;
    for entry in fs::read_dir(&folder).wrap_err("the journals cannot be seen")?.flatten() {
        let text = fs::read(entry.path()).wrap_err("a journal cannot be read")?;
        let mut file =
            OpenOptions::new().append(true).open(entry.path()).wrap_err("a journal cannot be torn")?;
        file.write_all(half_of_last_line(&text)).wrap_err("a journal cannot be torn")?;
        torn += 1;
    }
    if torn == 0 { Err(eyre!("there is no journal on {host} to be torn")) } else { Ok(()) }
}

/// The first half of a text's last line.
fn half_of_last_line(text: &[u8]) -> &[u8] {
    let line = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    &line[..line.len() / 2]
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_torn_line_is_half_of_one() {
        assert_eq!(half_of_last_line(b"first\nsecond\n"), b"sec");
        assert_eq!(half_of_last_line(b"only"), b"on");
        assert_eq!(half_of_last_line(b""), b"");
    }

    #[test]
    fn what_was_done_is_undone_once_whatever_happens() {
        let undone = AtomicU32::new(0);
        let undo = |after| Undo::new(after, || undone.store(undone.load(Relaxed) + 1, Relaxed));
        drop(undo(None));
        assert_eq!(undone.load(Relaxed), 1);
        assert!(undo(Some(Span::UntilEnd)).in_time(|| true).is_none());
        assert_eq!(undone.load(Relaxed), 2);
        let kept = undo(None).in_time(|| true);
        assert_eq!(undone.load(Relaxed), 2);
        drop(kept);
        assert_eq!(undone.load(Relaxed), 3);
    }
}
