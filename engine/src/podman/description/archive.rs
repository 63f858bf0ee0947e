//! A tar archive of a few small files and folders in memory, as POSIX.1-1988 (ustar) has it.

/// The unit of an archive, in bytes.
const BLOCK: usize = 512;

/// The longest name, in bytes.
pub(in super::super) const LONGEST_NAME: usize = 100;

/// An archive of files by name, for their owner alone, who may run them; a name that ends with a slash is a folder's. Contents are
/// less than 8 GiB.
pub(in super::super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        archive.extend_from_slice(&header(name, content.len()));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // The end: two blocks of zeros.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000700\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    // The checksum is made with itself as spaces.
    put(148, "        ");
    put(156, if name.ends_with('/') { "5" } else { "0" });
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(BLOCK + 1);
        let archive = archive(&[("etc/", b""), ("etc/config.dump", b"{}"), ("spec.dump", long.as_bytes())]);
        let mut tar =
            Command::new("tar").args(["-x", "-C"]).arg(folder.path()).stdin(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(tar.wait().unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("etc/config.dump")).unwrap(), b"{}");
        assert_eq!(std::fs::read_to_string(folder.path().join("spec.dump")).unwrap(), long);
    }
}
