//! `mose-write-protect`: gets the userfaultfd of one process for the tracker that started it. It is not for people.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pid = match &arguments[..] {
        [flag, pid] if flag == "--pid" => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    };
    match pid {
        Some(pid) => mose_pages::inject::serve(pid),
        None => {
            let text =
                "mose-write-protect --pid PID: started by the dirty-page tracker, with a socket as its input";
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(2)
        }
    }
}
