//! How fast the memory of another process is found and read, beside a plain copy of as many bytes in one's own.
//!
//! `cargo run --release -p mose-pages --example read-bench [MiB]`

use mose_pages::{PAGE_BYTES, PageReader, dumpable};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let mib: usize = arguments.get(1).map_or(Ok(256), |word| word.parse())?;
    if arguments.get(2).is_some_and(|word| word == "hold") {
        let memory = vec![1u8; mib << 20];
        writeln!(std::io::stdout(), "ready")?;
        std::io::stdin().lock().read_line(&mut String::new())?;
        std::hint::black_box(memory);
        return Ok(());
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args([&mib.to_string(), "hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
    let mut reader = PageReader::new();
    let (mut finding, mut reading, mut copying) = (Vec::new(), Vec::new(), Vec::new());
    let own = vec![1u8; mib << 20];
    let mut copy = vec![0u8; 256 << 10];
    let mut bytes = 0.0;
    for _ in 0..9 {
        let begun = Instant::now();
        let found = dumpable(&[child.id()])?;
        finding.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let mut sum = 0usize;
        for memory in &found.memories {
            let report = reader.read(memory.pid, &memory.pages, |chunk| sum += chunk.bytes.len())?;
            bytes = (report.pages * PAGE_BYTES) as f64;
        }
        reading.push(begun.elapsed().as_secs_f64());
        std::hint::black_box(sum);
        let begun = Instant::now();
        for chunk in own.chunks(copy.len()) {
            copy[..chunk.len()].copy_from_slice(chunk);
            std::hint::black_box(&copy);
        }
        copying.push(begun.elapsed().as_secs_f64());
    }
    child.kill()?;
    child.wait()?;
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (find, read, plain) = (median(&mut finding), median(&mut reading), median(&mut copying));
    let mut out = std::io::stdout().lock();
    writeln!(out, "found in         {:8.2} ms  ({:.0} MB)", find * 1e3, bytes / 1e6)?;
    writeln!(out, "read in          {:8.2} ms  {:.2} GB/s", read * 1e3, bytes / read / 1e9)?;
    writeln!(out, "plain copy in    {:8.2} ms  {:.2} GB/s", plain * 1e3, (mib << 20) as f64 / plain / 1e9)?;
    writeln!(out, "read/copy speed  {:8.2}", plain / read)?;
    Ok(())
}
