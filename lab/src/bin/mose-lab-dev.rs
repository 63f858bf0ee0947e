//! A thin command line over the lab, until `mose lab` exists.
#![expect(clippy::print_stdout, reason = "a command line")]

use std::path::PathBuf;
use std::process::ExitCode;

use mose_lab::{Lab, LabConfig, LabError};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match command(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mose-lab-dev: {error}");
            ExitCode::FAILURE
        }
    }
}

fn config(options: &[String]) -> Result<LabConfig, LabError> {
    let mut config = LabConfig::default();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = options.next().map(String::as_str).unwrap_or_default();
        match option.as_str() {
            "--edge-link" => config.edge_link = value.parse()?,
            "--cgroup" => config.cgroup = value.parse()?,
            "--state-dir" => config.state_dir = value.into(),
            "--data-dir" => config.data_dir = value.into(),
            "--cache-dir" => config.cache_dir = value.into(),
            "--binary" => {
                let path = PathBuf::from(value);
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                config.binaries.insert(name, path);
            }
            _ => {
                return Err(LabError::Invalid {
                    what: format!("option {option}"),
                    reason: "--edge-link, --cgroup, --state-dir, --data-dir, --cache-dir, --binary".into(),
                });
            }
        }
    }
    Ok(config)
}

fn command(args: &[String]) -> Result<ExitCode, LabError> {
    let split = args.iter().position(|a| a == "--").unwrap_or(args.len());
    let (args, argv) = (&args[..split], args.get(split + 1..).unwrap_or_default());
    let (word, rest) = args.split_first().map_or(("help", args), |(w, r)| (w.as_str(), r));
    let mut show = |p: mose_lab::Progress| println!("{:>7.3} s  {}", p.elapsed.as_secs_f64(), p.what);
    let json = |value: &dyn Fn() -> serde_json::Result<String>| {
        println!("{}", value().unwrap_or_default());
    };
    match word {
        "lab-init" => mose_lab::init::run(rest.first().map(String::as_str).unwrap_or_default().as_ref())?,
        "up" => drop(Lab::up(&config(rest)?, &mut show)?),
        "reset" => drop(Lab::reset(&config(rest)?, &mut show)?),
        "down" => {
            let report = Lab::down(&config(rest)?)?;
            json(&|| serde_json::to_string(&report));
        }
        "purge" => Lab::purge(&config(rest)?)?,
        "status" => {
            let status = Lab::open(&config(rest)?.state_dir)?.ok_or(LabError::NotUp)?.status();
            json(&|| serde_json::to_string_pretty(&status));
        }
        "edge-link" => {
            let config = config(rest)?;
            Lab::open(&config.state_dir)?.ok_or(LabError::NotUp)?.set_edge_link(config.edge_link)?;
        }
        "exec" => {
            let (host, rest) = rest.split_first().ok_or(LabError::NotUp)?;
            let lab = Lab::open(&config(rest)?.state_dir)?.ok_or(LabError::NotUp)?;
            let status = lab
                .exec(host, argv)?
                .status()
                .map_err(|source| LabError::Io { what: "run nsenter".into(), source })?;
            return Ok(ExitCode::from(status.code().unwrap_or(137) as u8));
        }
        _ => println!("up | down | reset | purge | status | edge-link | exec HOST -- ARGV"),
    }
    Ok(ExitCode::SUCCESS)
}
