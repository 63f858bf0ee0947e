//! `mose-holdall`: a service that holds one of every kind of kernel object, and tells all of it.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use mose_lab::objects::Objects;

const USAGE: &str = "\
Holds one of every kind of kernel object, in states that are easily lost, and tells all of it as text.

mose-holdall serve [LISTEN]          default: 0.0.0.0:7171
mose-holdall ask ADDR:PORT tell      everything's state; asking changes nothing
mose-holdall ask ADDR:PORT prove     what comes of using everything; to be asked once
";

/// The folder of the files that it holds.
const PLACE: &str = "/var/holdall";

/// How long an answer may take: proving waits for timers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 16 << 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve"] => serve("0.0.0.0:7171"),
        ["serve", listen] => serve(listen),
        ["ask", address, what @ ("tell" | "prove")] => ask(address, what),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("mose-holdall: these words are not understood: {words:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mose-holdall: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listen: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    let objects = Objects::make(Path::new(PLACE))?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away is no reason to end.
        if let Err(error) = answer(&stream, &objects) {
            eprintln!("mose-holdall: {error}");
        }
    }
}

fn answer(mut stream: &TcpStream, objects: &Objects) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new(stream.take(64)).read_line(&mut question)?;
    let text = match question.trim() {
        "tell" => objects.tell(),
        "prove" => objects.prove(),
        other => format!("`{other}` is not understood\n"),
    };
    stream.write_all(text.as_bytes())
}

fn ask(address: &str, what: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{what}")?;
    let mut text = String::new();
    stream.take(LONGEST).read_to_string(&mut text)?;
    print!("{text}");
    Ok(())
}
