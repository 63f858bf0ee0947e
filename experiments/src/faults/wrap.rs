//! How a moment within CRIU or runc is hit: a program of the host is replaced by a script that, at that moment, says so and waits
//! until the fault has struck; then it goes on as the program that it stands for.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use color_eyre::eyre::WrapErr;
use mose_lab::Lab;

use super::cell::Moment;
use super::host::{outside, sh, try_sh};

/// Where the scripts and the table meet, on the host: `armed` is there until the moment has come once, `hit` from then on, with the
/// process that came there, and `go` once the fault has struck. Lines in `then` are run before the script goes on.
const PLACE: &str = "/run/mose-fault";

/// How often is looked whether the moment has come: the fault is to strike there, not later.
const GLANCE: Duration = Duration::from_millis(2);

/// Waits for `go`, ten seconds at most.
const WAIT: &str = "wait_for_go() {
    n=0
    while [ ! -e /run/mose-fault/go ] && [ $n -lt 1000 ]; do sleep 0.01; n=$((n + 1)); done
    [ ! -e /run/mose-fault/then ] || . /run/mose-fault/then
}
hit() { echo $1 > /run/mose-fault/hit.new; mv /run/mose-fault/hit.new /run/mose-fault/hit; }
taken() { mv /run/mose-fault/armed /run/mose-fault/taken 2>/dev/null; }";

/// A program that is replaced. It is put back when this is dropped.
pub(crate) struct Wrapped<'a> {
    lab: &'a Lab,
    host: String,
    program: &'static str,
    place: PathBuf,
}

impl<'a> Wrapped<'a> {
    /// Arms a host for a moment; `None` for those that need no script.
    pub(crate) fn arm(lab: &'a Lab, host: &str, moment: Moment) -> color_eyre::Result<Option<Self>> {
        let (program, script) = match moment {
            Moment::Before | Moment::Step(..) => return Ok(None),
            Moment::Hook(stage) => ("/usr/local/bin/mose-criu-hook", hook(stage)),
            Moment::CriuLog(line) => ("/usr/sbin/criu", criu(line)),
            Moment::Runc(verb) => ("/usr/sbin/runc", runc(verb)),
        };
        let place = outside(lab, host, PLACE)?;
        let wrapped = Self { lab, host: host.to_owned(), program, place };
        let install = format!(
            "rm -rf {PLACE} && mkdir -p {PLACE} && touch {PLACE}/armed && [ ! -e {program}.real ] && cp -p {program} {program}.real && \
             cat > {program}.new <<'END' && chmod 755 {program}.new && mv {program}.new {program}\n#!/bin/sh\n{WAIT}\n{script}\nEND\n"
        );
        sh(lab, host, &install)?;
        Ok(Some(wrapped))
    }

    /// The process that has come to the moment, by its id on its host; `None` where it had not come when `over` held.
    pub(crate) fn wait(&self, mut over: impl FnMut() -> bool, deadline: Instant) -> Option<i32> {
        loop {
            if let Some(pid) =
                fs::read_to_string(self.place.join("hit")).ok().and_then(|t| t.trim().parse().ok())
            {
                return Some(pid);
            }
            if over() || Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Lines of a shell that the script runs before it goes on.
    pub(crate) fn then(&self, lines: &str) -> color_eyre::Result<()> {
        fs::write(self.place.join("then"), lines).wrap_err("the script cannot be told what to do")
    }

    /// Lets what waits go on.
    pub(crate) fn go(&self) -> color_eyre::Result<()> {
        fs::write(self.place.join("go"), "").wrap_err("what waits cannot be let go")
    }
}

impl Drop for Wrapped<'_> {
    fn drop(&mut self) {
        // Whoever still waits is let go first.
        let _ = self.go();
        let program = self.program;
        try_sh(
            self.lab,
            &self.host,
            &format!("[ ! -e {program}.real ] || mv -f {program}.real {program}; rm -rf {PLACE}"),
        );
    }
}

/// CRIU's action script at a stage. The process told is CRIU itself, which may have started the script through a shell.
fn hook(stage: &str) -> String {
    format!(
        "if [ \"$CRTOOLS_SCRIPT_ACTION\" = {stage} ] && taken; then
    p=$PPID
    while [ \"$p\" -gt 1 ] && [ \"$(cat /proc/$p/comm)\" != criu ]; do p=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$p/status); done
    hit $p
    wait_for_go
fi
exec /usr/local/bin/mose-criu-hook.real \"$@\""
    )
}

/// CRIU, which stops as soon as its log has a line. runc starts it several times; only one of them dumps.
fn criu(line: &str) -> String {
    format!(
        "case \"$*\" in *swrk*)
    me=$$
    log=$(ls -d /var/lib/containers/storage/overlay-containers/*/userdata | head -n 1)/dump.log
    rm -f \"$log\"
    (while [ -d /proc/$me ]; do
        if grep -qs '{line}' \"$log\" && kill -STOP $me && taken; then hit $me; wait_for_go; exit; fi
    done) &
esac
exec /usr/sbin/criu.real \"$@\""
    )
}

/// runc, as it is told to do something.
fn runc(verb: &str) -> String {
    format!(
        "for word in \"$@\"; do
    if [ \"$word\" = {verb} ] && taken; then hit $$; wait_for_go; fi
done
exec /usr/sbin/runc.real \"$@\""
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_scripts_are_ones_that_a_shell_reads() {
        for script in [hook("pre-dump"), criu("Lock network"), runc("restore")] {
            let text = format!("{WAIT}\n{script}\n");
            let read = Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(read.status.success(), "{}\n{text}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
