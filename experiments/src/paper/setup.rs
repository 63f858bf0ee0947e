//! What a run is made with: the programs that the lab's hosts run, this machine, and the programs of others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use color_eyre::eyre::WrapErr;
use mose_console::lab::commands::Paper;
use mose_experiments::documents::{Machine, Setup};
use mose_lab::Lab;
use xxhash_rust::xxh3::Xxh3;

use crate::course::{EDGES, Orders};

/// Of a lab that is up.
pub(crate) fn setup(lab: &Lab, orders: &Orders, options: &Paper) -> color_eyre::Result<Setup> {
    let hello = orders.hello(&EDGES[0].parse()?)?;
    Ok(Setup {
        table: options.table.name(),
        runs: options.runs,
        seed: options.seed,
        build: build(&programs(lab)?)?,
        release: hello.release,
        link: lab.status().edge_link.to_string(),
        machine: machine()?,
        versions: hello.tools.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

/// This program, and ours as the hosts have them: those beside this one may be newer than the lab.
fn programs(lab: &Lab) -> color_eyre::Result<Vec<PathBuf>> {
    let mut programs = vec![PathBuf::from("/proc/self/exe")];
    let folder = PathBuf::from(format!("/proc/{}/root/usr/local/bin", lab.host_pid(EDGES[0])?));
    programs.extend(lab.config().binaries.keys().map(|name| folder.join(name)));
    Ok(programs)
}

/// A hash of programs, by their order and all of their bytes.
fn build(programs: &[PathBuf]) -> color_eyre::Result<String> {
    let mut hash = Xxh3::new();
    for program in programs {
        let length =
            add(program, &mut hash).wrap_err_with(|| format!("{} cannot be read", program.display()))?;
        hash.update(&length.to_le_bytes());
    }
    Ok(format!("{:032x}", hash.digest128()))
}

fn add(program: &Path, hash: &mut Xxh3) -> io::Result<u64> {
    let (mut file, mut block, mut length) = (File::open(program)?, vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(length);
        }
        hash.update(&block[..read]);
        length += read as u64;
    }
}

fn machine() -> color_eyre::Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).wrap_err_with(|| format!("{path} cannot be read"));
    let (processors, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
    let processor = field(&processors, "model name").unwrap_or("an unknown processor");
    let kilobytes =
        field(&memory, "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Machine {
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        processor: processor.to_owned(),
        processors: std::thread::available_parallelism()
            .map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
        memory_bytes: kilobytes.unwrap_or(0) * 1024,
    })
}

/// What stands behind a name and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_by_every_byte_of_its_programs_and_by_where_one_ends() {
        let folder = std::env::temp_dir().join(format!("mose-build-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let of = |a: &str, b: &str| {
            let paths = [folder.join("a"), folder.join("b")];
            std::fs::write(&paths[0], a).unwrap();
            std::fs::write(&paths[1], b).unwrap();
            build(&paths).unwrap()
        };
        assert_eq!(of("ab", "cd"), of("ab", "cd"));
        assert_ne!(of("ab", "cd"), of("ab", "ce"));
        assert_ne!(of("ab", "cd"), of("abc", "d"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(build(&[folder.join("a")]).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn this_machine_is_known() {
        let machine = machine().unwrap();
        assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(!machine.kernel.contains('\n') && !machine.processor.is_empty(), "{machine:?}");
        assert_eq!(field("a\t: b c\nMemTotal:  7 kB\n", "MemTotal"), Some("7 kB"));
    }
}
