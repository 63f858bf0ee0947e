//! The log of commands that print: on the error stream, as `MOSE_LOG` says.

/// Begins to log. The console does not: it shows its log in a pane; printed, it would lie over the picture.
pub fn to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MOSE_LOG")
                .unwrap_or_else(|_| "warn,zenoh=off".into()),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}
