//! A source that lies, sends too much, or tries to get out of its folder.

use super::*;
use crate::TreeFolder;
use crate::frame::Meta;

/// A destination without a network, and the folder around its folders.
fn sink(rootfs: bool) -> (tempfile::TempDir, Sink) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("upper")).unwrap();
    let trees = rootfs.then(|| TreeFolder::whole(at("upper"))).into_iter().collect();
    let folders = Folders { stream: at("stream"), images: at("images"), trees };
    let bounds = TransferBounds { chunk: 4096, window: 4096, stall_ms: 1000, total: 10_000, entries: 200 };
    let sink =
        Sink::open(folders, bounds, 0, Arc::default(), watch::channel(ReceiveState::default()).0).unwrap();
    (dir, sink)
}

fn take(sink: &mut Sink, records: &[Record<'_>]) -> Result<(), TransferError> {
    let mut frame = Buf::new(4096);
    records.iter().for_each(|record| frame.push(record));
    sink.frame(&frame, "a liar").map(drop)
}

fn entry(section: Section, id: u32, path: &str, kind: Kind) -> Record<'static> {
    let path = RelPath::parse(path.as_bytes()).unwrap();
    let meta = Meta { mode: 0o644, ..Meta::default() };
    Record::Entry { section, id, path, entry: Entry { kind, meta } }
}

fn images(id: u32, path: &str) -> Record<'static> {
    entry(Section::Images, id, path, Kind::File)
}

#[test]
fn a_source_that_lies_about_content_is_found_out() {
    let digest = Digest::default();
    let lies: [(&str, &[Record<'_>]); 8] = [
        ("content of nothing", &[Record::Data { id: 0, offset: 0, bytes: b"x" }]),
        ("a hole", &[images(0, "a"), Record::Data { id: 0, offset: 1, bytes: b"x" }]),
        ("an end of nothing", &[Record::End { id: 0, size: 0, digest }]),
        ("a wrong digest", &[images(0, "a"), Record::End { id: 0, size: 0, digest }]),
        ("one id twice", &[images(0, "a"), images(0, "b")]),
        ("a wrong archive", &[Record::Stream(b"x"), Record::StreamEnd { size: 1, digest }]),
        ("a name of nothing", &[entry(Section::ROOTFS, 0, "a", Kind::Link(RelPath::default()))]),
        ("a folder as a file", &[images(0, "a"), entry(Section::Images, 1, "a/b", Kind::File)]),
    ];
    for (what, records) in lies {
        let (_dir, mut sink) = sink(true);
        assert!(take(&mut sink, records).is_err(), "{what} was accepted");
    }
}

#[test]
fn a_source_that_sends_too_much_is_stopped() {
    let (_dir, mut sink) = sink(true);
    let more = [Record::Stream(&[0; 4000]), Record::Stream(&[0; 4000]), Record::Stream(&[0; 4000])];
    assert!(matches!(take(&mut sink, &more), Err(TransferError::Limit { limit: 10_000, .. })));
    let open: Vec<_> = (0..=MAX_OPEN as u32).map(|id| images(id, &format!("f{id}"))).collect();
    assert!(matches!(take(&mut sink, &open), Err(TransferError::Malformed { .. })));
    let dirs: Vec<_> = (0..201).map(|id| entry(Section::ROOTFS, id, &format!("d{id}"), Kind::Dir)).collect();
    assert!(matches!(take(&mut sink, &dirs), Err(TransferError::Limit { limit: 200, .. })));
}

#[test]
fn root_file_system_changes_without_a_folder_for_them_are_refused() {
    let (_dir, mut sink) = sink(false);
    assert!(take(&mut sink, &[entry(Section::ROOTFS, 0, "a", Kind::Dir)]).is_err());
}

#[test]
fn a_received_link_leads_no_later_record_out_of_the_folder() {
    let (dir, mut sink) = sink(true);
    let link = |target: &str| entry(Section::ROOTFS, 0, "out", Kind::Symlink(target.into()));
    fs::write(dir.path().join("kept"), "x").unwrap();
    // Only root may give a file away.
    drop(take(&mut sink, &[link("..")]));
    assert!(dir.path().join("upper/out").is_symlink());
    let path = RelPath::parse(b"out/kept").unwrap();
    assert!(take(&mut sink, &[entry(Section::ROOTFS, 1, "out/new", Kind::File)]).is_err());
    assert!(take(&mut sink, &[Record::Remove { section: Section::ROOTFS, path }]).is_err());
    assert!(dir.path().join("kept").exists() && !dir.path().join("new").exists());
}
