//! What tracking tells and what it costs: a process that writes to its memory at a known rate is measured by each means, and
//! its throughput is compared with and without.
//!
//! `cargo build --release -p mose-pages --bins --examples && target/release/examples/tracker-bench [rates] [cost] [stops]`

use mose_pages::{Means, Preference, Sampler, SamplerConfig, dumpable, open};
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const MIB: usize = 256;
const PAGE: usize = 4096;
const RATES: [u64; 5] = [10, 100, 1000, 10_000, 50_000];

/// How the process writes: so many pages a second at random, or as many as it can, with so much work for each.
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static CPU_NS: AtomicU64 = AtomicU64::new(0);

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn memory() -> Result<&'static mut [u64], Failure> {
    let bytes = MIB << 20;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping that stays until the process ends; the advice changes no contents.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
        Ok(std::slice::from_raw_parts_mut(at.cast(), bytes / 8))
    }
}

/// How many pages a process writes within a second besides those that it is asked to: its stacks and counters.
fn besides() -> Result<f64, Failure> {
    let service = Service::start(1000, HOME)?;
    let mut tracker = open(&preference(Means::WriteProtection)?)?.tracker;
    tracker.tick(&[service.child.id()])?;
    let mut pages = 0;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        pages += tracker.tick(&[service.child.id()])?.pages();
    }
    // One of them is the one that it was asked to write.
    Ok(pages as f64 / 4.0 - 1.0)
}

/// Work of so much means: always the same page.
const HOME: u64 = u64::MAX;

/// The child: writes, and answers each line with how many pages it wrote and how much processor time that took.
fn child(rate: u64, work: u64) -> Result<(), Failure> {
    let memory = memory()?;
    memory.iter_mut().step_by(PAGE / 8).for_each(|word| *word = 1);
    let pages = (memory.len() * 8 / PAGE) as u64;
    std::thread::spawn(move || {
        let (mut state, begun) = (0x9e37_79b9_7f4a_7c15, Instant::now());
        let mut write = |state: &mut u64| {
            let drawn = next(state);
            let pages = if work == HOME { 1 } else { pages };
            let page = ((u128::from(drawn) * u128::from(pages)) >> 64) as usize;
            memory[page * PAGE / 8 + (drawn & 511) as usize] = drawn;
            WRITTEN.fetch_add(1, Relaxed);
        };
        loop {
            if rate > 0 {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                (WRITTEN.load(Relaxed)..due).for_each(|_| write(&mut state));
                std::thread::sleep(Duration::from_millis(1).max(Duration::from_secs(1) / rate as u32 / 4));
            } else {
                for _ in 0..256 {
                    for _ in 0..work {
                        std::hint::black_box(next(&mut state));
                    }
                    write(&mut state);
                }
                CPU_NS.store(thread_cpu().as_nanos() as u64, Relaxed);
            }
        }
    });
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(stdout(), "{} {}", WRITTEN.load(Relaxed), CPU_NS.load(Relaxed))?;
    }
    Ok(())
}

struct Service {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Service {
    fn start(rate: u64, work: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["write", &rate.to_string(), &work.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut service = Self {
            child,
            input: input.ok_or("no input")?,
            output: BufReader::new(output.ok_or("no output")?),
        };
        service.ask()?;
        std::thread::sleep(Duration::from_millis(300));
        Ok(service)
    }

    /// Pages written so far, and processor time in ns.
    fn ask(&mut self) -> Result<(u64, u64), Failure> {
        writeln!(self.input, "?")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let mut number = || words.next().ok_or("no answer")?.parse().map_err(Failure::from);
        Ok((number()?, number()?))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn preference(means: Means) -> Result<Preference, Failure> {
    let here = std::env::current_exe()?;
    let helper =
        here.parent().and_then(|folder| folder.parent()).ok_or("no folder")?.join("mose-write-protect");
    Ok(Preference { only: Some(means), helper: Some(helper) })
}

/// Steps a sampler until a time.
fn follow(sampler: &mut Sampler, pid: u32, until: Instant) -> Result<(), Failure> {
    while Instant::now() < until {
        let next = sampler.step(Instant::now(), &[pid])?;
        let at = next.at.min(until);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn rates() -> Result<(), Failure> {
    let mut out = stdout();
    let besides = besides()?;
    writeln!(
        out,
        "the process writes {besides:.1} pages every second besides, its counters and stacks; counted as written"
    )?;
    writeln!(
        out,
        "means              budget  pages/s    told now    (off)   told mean    (off)   look ms   cost %"
    )?;
    for means in [Means::WriteProtection, Means::SoftDirty, Means::Hashing] {
        // By hashing, 256 MiB cannot be looked at often enough for a table within half a percent.
        let budget = if means == Means::Hashing { 0.2 } else { 0.005 };
        for rate in RATES {
            let tracker = match open(&preference(means)?) {
                Ok(opened) => opened.tracker,
                Err(e) => {
                    writeln!(out, "{means:<18} {e}")?;
                    break;
                }
            };
            let mut service = Service::start(rate, 0)?;
            let config = SamplerConfig { budget, ..SamplerConfig::default() };
            let mut sampler = Sampler::new(tracker, config);
            let (begun, (before, _)) = (Instant::now(), service.ask()?);
            let time = Duration::from_secs(if rate <= 100 { 30 } else { 15 });
            follow(&mut sampler, service.child.id(), begun + time)?;
            let took = begun.elapsed().as_secs_f64();
            let truth = (service.ask()?.0 - before) as f64 / took + besides;
            let (profile, cost) = (sampler.profile(), sampler.cost());
            let now = profile.current.ok_or("nothing was told")?.0;
            let mean = profile.mean.ok_or("nothing was told")?.0;
            writeln!(
                out,
                "{:<18} {budget:>6} {truth:>8.0} {now:>11.1} {:>+7.1}% {mean:>11.1} {:>+7.1}% {:>9.2} {:>8.2}",
                means.name(),
                (now / truth - 1.0) * 100.0,
                (mean / truth - 1.0) * 100.0,
                cost.looking.as_secs_f64() * 1e3 / cost.ticks as f64,
                cost.total().as_secs_f64() / took * 100.0,
            )?;
        }
    }
    Ok(())
}

/// What measurements take from a service: its throughput with one in each turn and without any, by turns. A sampler makes them so
/// much more rarely that on a machine with other work the difference would drown; its ratio follows from their cost.
fn cost() -> Result<(), Failure> {
    const TURN: Duration = Duration::from_millis(400);
    let budget = SamplerConfig::default().budget;
    let mut out = stdout();
    writeln!(
        out,
        "                                with one in 400 ms/without     a measurement takes, ms      within 0.5 %"
    )?;
    writeln!(
        out,
        "service               pages/s    throughput  per cpu second       lost     modelled    every s     ratio"
    )?;
    for (name, work) in [("writes only", 0), ("5 us work a page", 1500), ("50 us work a page", 15_000)] {
        let mut service = Service::start(0, work)?;
        let pid = service.child.id();
        let mut tracker = open(&preference(Means::WriteProtection)?)?.tracker;
        tracker.tick(&[pid])?;
        tracker.pause();
        let before = tracker.cost().total();
        let mut sums = [[0.0f64; 3]; 2];
        let turns = 60;
        for turn in 0..turns {
            let with = turn % 2;
            let (begun, asked) = (Instant::now(), service.ask()?);
            if with == 1 {
                tracker.tick(&[pid])?;
                std::thread::sleep(Duration::from_millis(20));
                tracker.tick(&[pid])?;
                tracker.pause();
            }
            std::thread::sleep(TURN.saturating_sub(begun.elapsed()));
            let answered = service.ask()?;
            let took = begun.elapsed().as_secs_f64();
            let got = [(answered.0 - asked.0) as f64, (answered.1 - asked.1) as f64, took];
            for (sum, got) in sums[with].iter_mut().zip(got) {
                *sum += got;
            }
        }
        let rate = |with: usize, per: usize| sums[with][0] / sums[with][per];
        let (throughput, processor) = (rate(1, 2) / rate(0, 2), rate(1, 1) / rate(0, 1));
        let measured = f64::from(turns as u32 / 2);
        let lost = (1.0 - throughput) * sums[1][2] / measured;
        let modelled = (tracker.cost().total() - before).as_secs_f64() / measured;
        let cycle = modelled / budget;
        writeln!(
            out,
            "{name:<18} {:>10.0} {throughput:>13.4} {processor:>15.4} {:>10.1} {:>12.1} {cycle:>10.1} {:>9.4}",
            rate(0, 2),
            lost * 1e3,
            modelled * 1e3,
            1.0 - lost / cycle,
        )?;
    }
    Ok(())
}

fn stops() -> Result<(), Failure> {
    let service = Service::start(10_000, 0)?;
    let (mut stops, mut looks, mut finding) = (Vec::new(), Vec::new(), Vec::new());
    let (mut setups, mut endings) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let mut tracker = open(&preference(Means::WriteProtection)?)?.tracker;
        tracker.tick(&[service.child.id()])?;
        stops.push(tracker.cost().longest_stop.as_secs_f64() * 1e6);
        for _ in 0..5 {
            let begun = Instant::now();
            tracker.tick(&[service.child.id()])?;
            looks.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        setups.push(tracker.cost().setting_up.as_secs_f64() * 1e6);
        let begun = Instant::now();
        drop(tracker);
        endings.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        dumpable(&[service.child.id()])?;
        finding.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let mut out = stdout();
    writeln!(out, "us                       least    median      most")?;
    let lists = [
        ("stop of one thread", &mut stops),
        ("setting up", &mut setups),
        ("a tick", &mut looks),
        ("letting go", &mut endings),
        ("state size", &mut finding),
    ];
    for (name, list) in lists {
        list.sort_by(f64::total_cmp);
        writeln!(
            out,
            "{name:<20} {:>9.0} {:>9.0} {:>9.0}",
            list[0],
            list[list.len() / 2],
            list[list.len() - 1]
        )?;
    }
    let cost = open(&preference(Means::WriteProtection)?)?.tracker.cost().per_fault;
    writeln!(out, "a fault, as measured at the start: {} ns", cost.as_nanos())?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, rate, work] = &arguments[..]
        && word == "write"
    {
        return child(rate.parse()?, work.parse()?);
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|word| word == name);
    for (name, part) in [("stops", stops as fn() -> _), ("rates", rates), ("cost", cost)] {
        if wanted(name) {
            part()?;
            writeln!(stdout())?;
        }
    }
    Ok(())
}
