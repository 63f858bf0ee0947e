//! `mose-counter`: a service whose every fault shows, and the client that looks.

use mose_lab::counter::{crowd, frames, ping, protocol::Protocol, server};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const USAGE: &str = "\
A service that holds state, dirties it and numbers its replies; and the client that looks.

mose-counter serve  [--listen 0.0.0.0:7070] [--state-size 64MiB] [--dirty-rate PAGES/S] [--processes N]
                    [--write-file PATH] [--write-rate RECORDS/S] [--seed N]
mose-counter ping   --connect ADDR:PORT [--protocol counter|redis|memcached] [--rate 200] [--duration 10s|forever]
                    [--connections N] [--window N] [--timeout 60s] [--grace 5s] [--json PATH|-]
mose-counter crowd  --connect ADDR:PORT [--protocol redis|counter|memcached] [--connections 1000] [--rate 2]
                    [--duration 10s|forever] [--grace 30s] [--json PATH|-]
mose-counter stat   --connect ADDR:PORT [--over 1s]
mose-counter verify --connect ADDR:PORT

`ping` takes a thread for each connection; `crowd` has many in one thread and lists every request that waited for its reply.
`ping` and `crowd` end with 0 if nothing was wrong, 3 if a message or a connection was lost, repeated, reordered or damaged, 1 if it
could not run; `verify` likewise. SIGTERM and SIGINT end `ping` and `crowd` cleanly, with their report.
";

/// Set by the first signal; the client ends and writes its report.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

extern "C" fn leave(_signal: libc::c_int) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { libc::_exit(0) }
}

/// A container's first process has no default actions for signals: without a handler it could not be stopped.
fn on_signals(handler: extern "C" fn(libc::c_int)) {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: both handlers do only what is allowed in one.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// The arguments after the command, each `--name value`.
struct Flags(Vec<(String, String)>);

impl Flags {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = args;
        let mut flags = Vec::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| format!("`{arg}` is not understood"))?;
            match name.split_once('=') {
                Some((name, value)) => flags.push((name.to_owned(), value.to_owned())),
                None => {
                    let value = args.next().ok_or_else(|| format!("--{name} needs a value"))?;
                    flags.push((name.to_owned(), value));
                }
            }
        }
        Ok(Self(flags))
    }

    /// Takes a flag's value, read by `read`; the last one given counts.
    fn take<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let mut found = None;
        let mut failed = None;
        self.0.retain(|(given, value)| {
            let ours = given == name;
            if ours {
                match read(value) {
                    Ok(value) => found = Some(value),
                    Err(why) => failed = Some(format!("--{name} {value}: {why}")),
                }
            }
            !ours
        });
        failed.map_or(Ok(found), Err)
    }

    fn finish(self) -> Result<(), String> {
        self.0.first().map_or(Ok(()), |(name, _)| Err(format!("--{name} is not understood")))
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" | "B" => 1u64,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        unit => return Err(format!("unknown unit `{unit}`: B, KiB, MiB or GiB")),
    };
    parsed::<u64>(&text[..digits])?.checked_mul(unit).ok_or_else(|| "too much".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = parsed(&text[..digits])?;
    let unit = match &text[digits..] {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("unknown unit `{unit}`: ms, s, m or h")),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|e| e.to_string())
}

/// What a command says at the end.
enum Outcome {
    Sound,
    Unsound,
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| format!("cannot write the output: {e}"))
}

fn serve(mut flags: Flags) -> Result<Outcome, String> {
    let usual = server::Config::default();
    let config = server::Config {
        listen: flags.take("listen", parsed)?.unwrap_or(usual.listen),
        state_bytes: flags.take("state-size", bytes)?.unwrap_or(usual.state_bytes),
        dirty_rate: flags.take("dirty-rate", parsed)?.unwrap_or(usual.dirty_rate),
        processes: flags.take("processes", parsed)?.unwrap_or(usual.processes),
        file: flags.take("write-file", parsed)?,
        file_rate: flags.take("write-rate", parsed)?.unwrap_or(usual.file_rate),
        seed: flags.take("seed", parsed)?.unwrap_or(usual.seed),
    };
    flags.finish()?;
    let listen = config.listen;
    on_signals(leave);
    let service = server::Service::bind(config).map_err(|e| format!("cannot serve on {listen}: {e}"))?;
    service.run().map_err(|e| format!("the service on {listen} ended: {e}"))?;
    Ok(Outcome::Sound)
}

fn ping(mut flags: Flags) -> Result<Outcome, String> {
    let usual = ping::Config::default();
    let until = |text: &str| if text == "forever" { Ok(None) } else { duration(text).map(Some) };
    let config = ping::Config {
        connect: target(&mut flags)?,
        protocol: flags.take("protocol", parsed::<Protocol>)?.unwrap_or_default(),
        rate: flags.take("rate", parsed)?.unwrap_or(usual.rate),
        duration: flags.take("duration", until)?.unwrap_or(usual.duration),
        connections: flags.take("connections", parsed)?.unwrap_or(usual.connections),
        window: flags.take("window", parsed)?.unwrap_or(usual.window),
        timeout: flags.take("timeout", duration)?.unwrap_or(usual.timeout),
        grace: flags.take("grace", duration)?.unwrap_or(usual.grace),
    };
    let json = flags.take("json", parsed::<String>)?.unwrap_or_else(|| "-".to_owned());
    flags.finish()?;
    on_signals(stop);
    let report = ping::run(&config, &STOP, || connected(config.connect))
        .map_err(|e| format!("cannot connect to {}: {e}", config.connect))?;
    tell(&json, &report, report.is_clean())
}

fn crowd(mut flags: Flags) -> Result<Outcome, String> {
    let usual = crowd::Config::default();
    let until = |text: &str| if text == "forever" { Ok(None) } else { duration(text).map(Some) };
    let config = crowd::Config {
        connect: target(&mut flags)?,
        protocol: flags.take("protocol", parsed::<Protocol>)?.unwrap_or(usual.protocol),
        connections: flags.take("connections", parsed)?.unwrap_or(usual.connections),
        rate: flags.take("rate", parsed)?.unwrap_or(usual.rate),
        duration: flags.take("duration", until)?.unwrap_or(usual.duration),
        grace: flags.take("grace", duration)?.unwrap_or(usual.grace),
    };
    let json = flags.take("json", parsed::<String>)?.unwrap_or_else(|| "-".to_owned());
    flags.finish()?;
    on_signals(stop);
    let report = crowd::run(&config, &STOP, || connected(config.connect))
        .map_err(|e| format!("cannot open {} connections to {}: {e}", config.connections, config.connect))?;
    tell(&json, &report, report.is_clean())
}

/// Tells that all connections are open: on the error stream, since the output is the report; whoever started the client may wait
/// for this line.
fn connected(to: SocketAddr) {
    let _ = writeln!(std::io::stderr(), "connected to {to}");
}

fn tell(json: &str, report: &impl serde::Serialize, clean: bool) -> Result<Outcome, String> {
    let text = serde_json::to_string(report).map_err(|e| e.to_string())?;
    match json {
        "-" => print(&text)?,
        path => std::fs::write(path, text + "\n").map_err(|e| format!("cannot write {path}: {e}"))?,
    }
    Ok(if clean { Outcome::Sound } else { Outcome::Unsound })
}

fn target(flags: &mut Flags) -> Result<SocketAddr, String> {
    flags.take("connect", parsed)?.ok_or_else(|| "--connect ADDR:PORT is needed".to_owned())
}

fn ask(address: SocketAddr, kind: frames::Kind) -> Result<frames::CounterStatus, String> {
    TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            frames::query(&mut stream, kind, 0)
        })
        .map_err(|e| format!("cannot ask {address}: {e}"))
}

fn stat(mut flags: Flags, kind: frames::Kind) -> Result<Outcome, String> {
    let address = target(&mut flags)?;
    let over = flags.take("over", duration)?;
    flags.finish()?;
    let mut status = ask(address, kind)?;
    let mut measured = None;
    if let Some(over) = over {
        let first = status;
        std::thread::sleep(over);
        status = ask(address, kind)?;
        let seconds = status.at_ns.saturating_sub(first.at_ns) as f64 / 1e9;
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        measured = Some((
            per_second(status.dirtied, first.dirtied),
            per_second(status.busy_ns, first.busy_ns) / 1e9,
            per_second(status.replies, first.replies),
        ));
    }
    let mut value = serde_json::to_value(status).map_err(|e| e.to_string())?;
    if let (Some(fields), Some((dirty, busy, replies))) = (value.as_object_mut(), measured) {
        fields.insert("dirty_rate_measured".to_owned(), dirty.into());
        fields.insert("dirtying_cpu_share".to_owned(), busy.into());
        fields.insert("replies_per_second".to_owned(), replies.into());
    }
    print(&value.to_string())?;
    let sound = status.bad_pages == 0 && status.stale_workers == 0 && status.file_bad_records == 0;
    Ok(if sound { Outcome::Sound } else { Outcome::Unsound })
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let result = match command.as_str() {
        "--help" | "-h" | "help" => print(USAGE.trim_end()).map(|()| Outcome::Sound),
        "serve" => Flags::parse(args).and_then(serve),
        "ping" => Flags::parse(args).and_then(ping),
        "crowd" => Flags::parse(args).and_then(crowd),
        "stat" => Flags::parse(args).and_then(|flags| stat(flags, frames::Kind::Stat)),
        "verify" => Flags::parse(args).and_then(|flags| stat(flags, frames::Kind::Verify)),
        "" => Err(format!("what shall it do?\n\n{USAGE}")),
        other => Err(format!("unknown command `{other}`\n\n{USAGE}")),
    };
    match result {
        Ok(Outcome::Sound) => ExitCode::SUCCESS,
        Ok(Outcome::Unsound) => ExitCode::from(3),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "mose-counter: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        assert!(bytes("3 parsecs").is_err());
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        let flags = Flags::parse(["--conect".to_owned(), "x".to_owned()].into_iter()).unwrap();
        assert!(flags.finish().is_err());
        assert!(Flags::parse(["--rate".to_owned()].into_iter()).is_err());
    }
}
