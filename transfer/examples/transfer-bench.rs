//! Measures the image transfer against a raw TCP copy of the same bytes, each end in a process of its own.
//!
//! `transfer-bench [--loopback] [--runs N] [--size MIB] [--rate 1gbit]`: two network namespaces joined by a veth (root), or
//! the loopback, first unshaped and then shaped by tbf; raw copy, TCP transport and Zenoh transport take turns. The raw copy is
//! sendfile on one end, read and write on the other, no digest. Files lie in memory (tmpfs) if there is one. Times are the
//! source's, from the connection to the destination's word that all is written. Leaves nothing behind.
//!
//! `transfer-bench --bandwidth 20Mbps,100Mbps,500Mbps`: instead, each transport is held to each of these (root), and what the
//! shaped link's queue counts meanwhile, headers included, is printed beside it: on the whole, and of any fifth of a second.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mose_pam::BitsPerSec;
use mose_transfer::{DumpSignal, Folders, Receiver, Sender, TransferLimits, TransportKind, TransportOffer};

type Failed = Box<dyn Error + Send + Sync>;
type Outcome<T> = Result<T, Failed>;

const ZENOH_PORT: u16 = 17_447;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["receive", way, bind, folder] => receive(way, bind.parse()?, Path::new(folder)),
        ["send", way, offer, folder] => send(way, offer, Path::new(folder)),
        _ => compare(&Settings::parse(&words)?),
    }
}

struct Settings {
    loopback: bool,
    runs: usize,
    mib: usize,
    rate: String,
    bandwidths: Vec<BitsPerSec>,
}

impl Settings {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut settings =
            Self { loopback: false, runs: 7, mib: 512, rate: "1gbit".into(), bandwidths: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match *word {
                "--loopback" => settings.loopback = true,
                "--runs" => settings.runs = value()?.parse()?,
                "--size" => settings.mib = value()?.parse()?,
                "--bandwidth" => {
                    let words = value()?.split(',');
                    settings.bandwidths = words.map(str::parse).collect::<Result<_, _>>()?;
                }
                "--rate" => settings.rate = (*value()?).into(),
                other => return Err(format!("unknown argument {other}; see the head of this example").into()),
            }
        }
        Ok(settings)
    }
}

/// What one end says about a run.
#[derive(serde::Serialize, serde::Deserialize)]
struct Measured {
    seconds: f64,
    peak_kib: u64,
}

fn report(began: Instant) -> Outcome<()> {
    let seconds = began.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let peak_kib = peak.trim().trim_end_matches(" kB").parse()?;
    say(&serde_json::to_string(&Measured { seconds, peak_kib })?)
}

/// To the process that compares.
fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn session(listen: Option<&str>, connect: Option<&str>) -> Outcome<zenoh::Session> {
    let mut config = zenoh::Config::default();
    let list = |ip: Option<&str>| ip.map_or("[]".into(), |ip| format!(r#"["tcp/{ip}:{ZENOH_PORT}"]"#));
    let settings = [
        ("mode", r#""peer""#.into()),
        ("scouting/multicast/enabled", "false".into()),
        ("listen/endpoints", list(listen)),
        ("connect/endpoints", list(connect)),
        ("transport/link/rx/buffer_size", "16777216".into()),
        ("transport/link/tx/queue/congestion_control/block/wait_before_close", "60000000".to_owned()),
    ];
    for (key, value) in settings {
        config.insert_json5(key, &value)?;
    }
    mose_bus::session::configured(config).await
}

fn receive(way: &str, bind: Ipv4Addr, folder: &Path) -> Outcome<()> {
    let began = Instant::now();
    if way == "raw" {
        let listener = TcpListener::bind((bind, 0))?;
        say(&listener.local_addr()?.to_string())?;
        let (mut stream, _) = listener.accept()?;
        let mut file = File::create(folder.join("pages-1.img"))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count])?;
        }
        stream.write_all(b"!")?;
        return report(began);
    }
    runtime()?.block_on(async {
        let (kind, session) = match way {
            "zenoh" => (TransportKind::Zenoh, Some(session(Some(&bind.to_string()), None).await?)),
            _ => (TransportKind::Tcp, None),
        };
        let folders =
            Folders { stream: folder.join("stream"), images: folder.join("checkpoint"), trees: Vec::new() };
        let (mut receiver, offer) =
            Receiver::open(kind, bind, session, "bench", folders, TransferLimits::default()).await?;
        say(&serde_json::to_string(&offer)?)?;
        receiver.finished().await?;
        report(began)
    })
}

fn send(way: &str, offer: &str, folder: &Path) -> Outcome<()> {
    if way == "raw" {
        let file = File::open(folder.join("pages-1.img"))?;
        let size = file.metadata()?.len();
        let mut stream = TcpStream::connect(offer)?;
        let began = Instant::now();
        let mut offset = 0;
        while offset < size.cast_signed() {
            // SAFETY: both descriptors are open for the call, and `offset` outlives it.
            let sent =
                unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), &raw mut offset, 16 << 20) };
            if sent <= 0 {
                return Err(std::io::Error::last_os_error().into());
            }
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0])?;
        return report(began);
    }
    runtime()?.block_on(async {
        let offer: TransportOffer = serde_json::from_str(offer)?;
        let session = match &offer {
            // The offer names a key; where the session's link goes is the business of whoever opens it.
            TransportOffer::Zenoh { .. } => Some(session(None, Some(&std::env::var("BENCH_PEER")?)).await?),
            TransportOffer::Tcp { .. } => None,
        };
        let bandwidth = std::env::var("BENCH_BANDWIDTH").ok().map(|word| word.parse()).transpose()?;
        let limits = TransferLimits { bandwidth: bandwidth.map(BitsPerSec), ..TransferLimits::default() };
        let mut sender = Sender::connect(&offer, session, "bench", limits).await?;
        let began = Instant::now();
        sender.follow_images(folder, DumpSignal::done()).await?;
        sender.finish().await?;
        report(began)
    })
}

/// Where the two ends live.
struct Place {
    spaces: Option<(String, String)>,
    addresses: (Ipv4Addr, Ipv4Addr),
    folder: PathBuf,
}

fn ip(arguments: &str) -> Outcome<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Outcome<()> {
    let done = Command::new(program).args(arguments.split(' ')).status()?;
    if done.success() { Ok(()) } else { Err(format!("{program} {arguments}: {done}").into()) }
}

impl Place {
    fn make(loopback: bool) -> Outcome<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let id = std::process::id();
        let folder = base.join(format!("mose-transfer-bench-{id}"));
        fs::create_dir(&folder)?;
        let mut place = Self { spaces: None, addresses: (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), folder };
        if !loopback {
            let (a, b) = (format!("mose-bench-{id}-a"), format!("mose-bench-{id}-b"));
            place.spaces = Some((a.clone(), b.clone()));
            place.addresses = (Ipv4Addr::new(10, 253, 77, 1), Ipv4Addr::new(10, 253, 77, 2));
            ip(&format!("netns add {a}"))?;
            ip(&format!("netns add {b}"))?;
            ip(&format!("-n {a} link add bench type veth peer name bench netns {b}"))?;
            for (space, address) in [(&a, place.addresses.0), (&b, place.addresses.1)] {
                ip(&format!("-n {space} addr add {address}/24 dev bench"))?;
                ip(&format!("-n {space} link set lo up"))?;
                ip(&format!("-n {space} link set bench up"))?;
            }
        }
        Ok(place)
    }

    fn shape(&self, rate: &str) -> Outcome<()> {
        let Some((a, b)) = &self.spaces else { return Ok(()) };
        for space in [a, b] {
            let tbf =
                format!("-n {space} qdisc replace dev bench root tbf rate {rate} burst 256kb latency 50ms");
            run("tc", &tbf)?;
        }
        Ok(())
    }

    fn start(
        &self,
        space: Option<&str>,
        arguments: &[&OsStr],
        bandwidth: Option<BitsPerSec>,
    ) -> Outcome<(Child, BufReader<impl Read + use<>>)> {
        let own = std::env::current_exe()?;
        let mut command = match space {
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space]).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.args(arguments).env("BENCH_PEER", self.addresses.1.to_string()).stdout(Stdio::piped());
        if let Some(bandwidth) = bandwidth {
            command.env("BENCH_BANDWIDTH", bandwidth.0.to_string());
        }
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        Ok((child, BufReader::new(out)))
    }

    /// One transfer; what source and destination say of it.
    fn once(&self, way: &str, bandwidth: Option<BitsPerSec>) -> Outcome<(Measured, Measured)> {
        let to = self.folder.join("to");
        let from = self.folder.join("from");
        fs::create_dir(&to)?;
        let bind = self.addresses.1.to_string();
        let spaces = self.spaces.as_ref();
        let words = [OsStr::new("receive"), OsStr::new(way), OsStr::new(&bind), to.as_os_str()];
        let (mut receiver, mut out) = self.start(spaces.map(|s| s.1.as_str()), &words, None)?;
        let mut line = String::new();
        out.read_line(&mut line)?;
        let words = [OsStr::new("send"), OsStr::new(way), OsStr::new(line.trim()), from.as_os_str()];
        let sent = self.start(spaces.map(|s| s.0.as_str()), &words, bandwidth);
        let measured = sent.and_then(|(mut sender, out)| {
            let measured = last(out);
            sender.wait()?;
            measured
        });
        if measured.is_err() {
            receiver.kill()?;
        }
        let received = last(out);
        receiver.wait()?;
        fs::remove_dir_all(&to)?;
        Ok((measured?, received?))
    }
}

fn last(out: BufReader<impl Read>) -> Outcome<Measured> {
    let line = out.lines().next().ok_or("an end said nothing")??;
    Ok(serde_json::from_str(&line)?)
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.folder);
        let mut left = removed.err().map(|e| format!("{}: {e}", self.folder.display()));
        if let Some((a, b)) = &self.spaces {
            for space in [a, b] {
                left = ip(&format!("netns del {space}")).err().map(|e| e.to_string()).or(left);
            }
        }
        if let Some(left) = left {
            eprintln!("left behind: {left}");
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Keeps an interrupt from ending this process before it has cleaned up.
fn interruptible() -> Outcome<tokio::runtime::Runtime> {
    let runtime = runtime()?;
    runtime.spawn(async {
        while tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("interrupted; cleaning up");
        }
    });
    Ok(runtime)
}

fn compare(settings: &Settings) -> Outcome<()> {
    let place = Place::make(settings.loopback)?;
    // The children get the signal too and end; the loop below sees that, and the place is taken down.
    let _listening = interruptible()?;
    let from = place.folder.join("from");
    fs::create_dir(&from)?;
    if !settings.bandwidths.is_empty() {
        place.shape(&settings.rate)?;
        return settings.bandwidths.iter().try_for_each(|limit| allot(&place, *limit));
    }
    fill(&from, settings.mib)?;
    let links: &[(&str, bool)] =
        if settings.loopback { &[("loopback", false)] } else { &[("veth", false), ("shaped", true)] };
    for (link, shaped) in links {
        if *shaped {
            place.shape(&settings.rate)?;
        }
        measure(&place, settings, link, *shaped)?;
    }
    Ok(())
}

/// Pseudo-random bytes, so many MiB.
fn fill(folder: &Path, mib: usize) -> Outcome<()> {
    let mut file = File::create(folder.join("pages-1.img"))?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mib {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

/// Bytes that the source's queue has sent, headers of all segments included.
fn on_link(place: &Place) -> Outcome<u64> {
    let (space, _) = place.spaces.as_ref().ok_or("--bandwidth needs two namespaces, not the loopback")?;
    let shown =
        Command::new("tc").args(["-n", space, "-s", "-j", "qdisc", "show", "dev", "bench"]).output()?;
    let queues: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
    Ok(queues[0]["bytes"].as_u64().ok_or("tc counts no bytes")?)
}

/// Holds each transport to a bandwidth for some seconds, and prints what the link carried.
fn allot(place: &Place, limit: BitsPerSec) -> Outcome<()> {
    const SECONDS: u64 = 4;
    let mib = (limit.0 / 8 * SECONDS) >> 20;
    fill(&place.folder.join("from"), usize::try_from(mib)?.max(1))?;
    for way in ["tcp", "zenoh"] {
        let mut samples: Vec<(Instant, u64)> = Vec::new();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let transfer = scope.spawn(|| {
                let result = place.once(way, Some(limit));
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                result
            });
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let before = Instant::now();
                let bytes = on_link(place)?;
                samples.push((before + before.elapsed() / 2, bytes));
                std::thread::sleep(Duration::from_millis(10));
            }
            transfer.join().map_err(|_| "a thread panicked")?
        })?;
        let (whole, least, most) = rates(&samples).ok_or("nothing was seen on the link")?;
        let of = |rate: f64| rate / limit.0 as f64;
        say(&format!(
            "{limit:>10} over {way:<6} measured {:>10} ({:.3} of it); any 200 ms: {:.3} to {:.3}",
            BitsPerSec(whole as u64),
            of(whole),
            of(least),
            of(most),
        ))?;
    }
    Ok(())
}

/// Bits per second of the middle eight tenths of what was carried, and the least and the most in any 200 ms of them.
fn rates(samples: &[(Instant, u64)]) -> Option<(f64, f64, f64)> {
    let (first, last) = (samples.first()?.1, samples.last()?.1);
    let tenth = (last - first) / 10;
    let middle: Vec<_> = samples.iter().filter(|(_, b)| (first + tenth..=last - tenth).contains(b)).collect();
    let rate = |a: &(Instant, u64), b: &(Instant, u64)| (b.1 - a.1) as f64 * 8.0 / (b.0 - a.0).as_secs_f64();
    let whole = rate(middle.first()?, middle.last()?);
    let windows = middle.iter().filter_map(|a| {
        let b = middle.iter().find(|b| b.0 >= a.0 + Duration::from_millis(200))?;
        Some(rate(a, b))
    });
    let (least, most) = windows.fold((f64::MAX, 0.0_f64), |(l, m), r| (l.min(r), m.max(r)));
    Some((whole, least, most))
}

fn measure(place: &Place, settings: &Settings, link: &str, shaped: bool) -> Outcome<()> {
    const WAYS: [&str; 3] = ["raw", "tcp", "zenoh"];
    let bytes = (settings.mib << 20) as f64;
    let mut speeds = [const { Vec::new() }; 3];
    let mut peaks = [(0, 0); 3];
    for run in 0..=settings.runs {
        for (at, way) in WAYS.iter().enumerate() {
            let (sent, received) = place.once(way, None)?;
            // The first round warms up.
            if run > 0 {
                speeds[at].push(bytes / sent.seconds / 1e6);
                peaks[at] = (peaks[at].0.max(sent.peak_kib), peaks[at].1.max(received.peak_kib));
            }
        }
    }
    let rate = if shaped { settings.rate.as_str() } else { "unshaped" };
    say(&format!("{link} ({rate}), {} MiB, median of {}:", settings.mib, settings.runs))?;
    let raw = median(speeds[0].clone());
    for (at, way) in WAYS.iter().enumerate() {
        let of = median(speeds[at].clone());
        let (low, high) = speeds[at].iter().fold((f64::MAX, 0.0_f64), |(l, h), s| (l.min(*s), h.max(*s)));
        let (source, destination) = (peaks[at].0 >> 10, peaks[at].1 >> 10);
        say(&format!(
            "  {way:<6} {of:>7.0} MB/s ({low:.0} to {high:.0})  {:.2} of raw  peak memory {source} MiB source, {destination} MiB destination",
            of / raw
        ))?;
    }
    Ok(())
}
