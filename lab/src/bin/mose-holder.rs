//! `mose-holder`: holds things of the kernel's that are named, for as long as it lives.

use std::process::ExitCode;

use mose_lab::holder::{KINDS, Kind, LACKS, say_holding};

/// The kernel has no such thing, or does not let it be had.
const CANNOT: u8 = 77;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (here, named) = match words.split_first() {
        Some((word, kinds)) if word == "hold" => (false, kinds),
        Some((word, kinds)) if word == "here" && !kinds.is_empty() => (true, kinds),
        _ => {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            eprintln!(
                "mose-holder hold [--some] KIND…\n\nholds what is named until it is killed, with --some as much of it as there \
                 is: {}",
                names.join(", ")
            );
            return ExitCode::from(2);
        }
    };
    let some = named.first().is_some_and(|word| word == "--some");
    for name in named.iter().skip(usize::from(some)) {
        let Some(kind) = Kind::named(name) else {
            eprintln!("mose-holder: no kind is named {name}");
            return ExitCode::from(2);
        };
        match if here { kind.hold_here() } else { kind.hold() } {
            Ok(()) => {}
            Err(error) if some => eprintln!("{LACKS}{name}: {error}"),
            Err(error) => {
                eprintln!("mose-holder: {name} cannot be had: {error}");
                return ExitCode::from(CANNOT);
            }
        }
    }
    say_holding();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
