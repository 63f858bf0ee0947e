//! Trees of files over a real transfer: what of a file is sent again, and what is kept as it was.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use crate::support::{Pair, noise};
use mose_transfer::{Reread, Root, TransportKind, TreeFolder};
use proptest::prelude::*;

/// Bytes of a block.
const BLOCK: u64 = 128 << 10;

/// Lets the clock of the file system move on, so that nothing is sent again only because it is young.
fn age() {
    std::thread::sleep(Duration::from_millis(150));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_file_that_changed_in_one_place_one_block_is_sent() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let root = Root::whole(&pair.at("upper"));
    let file = pair.at("upper/database");
    fs::write(&file, noise(8 << 20, 1)).unwrap();
    fs::hard_link(&file, pair.at("upper/second-name")).unwrap();
    age();
    let (mut receiver, mut sender) = pair.start().await;
    let first = sender.precopy_tree(0, root.clone()).await.unwrap();
    assert_eq!(first.bytes, 8 << 20);
    File::options().write(true).open(&file).unwrap().write_all_at(b"changed", 5 << 20).unwrap();
    let second = sender.final_tree(0, root).await.unwrap();
    assert_eq!(second.bytes, BLOCK);
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert_eq!(fs::read(pair.at("there/database")).unwrap(), fs::read(&file).unwrap());
    let inode = |name: &str| fs::metadata(pair.at("there").join(name)).unwrap().ino();
    assert_eq!(inode("database"), inode("second-name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_a_mapping_arrives_although_no_time_tells_of_it() {
    let pair = Pair::new(TransportKind::Tcp).await;
    // In memory, where no write-back has the next write move the time.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("mapped");
    fs::write(&path, noise(1 << 20, 1)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let length = 1 << 20;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice, which nothing else knows of.
    let map = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(map, libc::MAP_FAILED);
    let write = |at: usize, byte: u8| {
        // SAFETY: `at` lies within the mapping, which lives until the end of the test.
        unsafe { map.cast::<u8>().add(at).write_volatile(byte) };
    };
    write(0, 1);
    age();
    let root = Root {
        reread: Reread::Mapped(HashSet::from([file.metadata().unwrap().ino()])),
        ..Root::whole(folder.path())
    };
    let (mut receiver, mut sender) = pair.start().await;
    sender.precopy_tree(0, root.clone()).await.unwrap();
    let before = file.metadata().unwrap();
    write(1, 77);
    let after = file.metadata().unwrap();
    assert_eq!((before.mtime_nsec(), before.ctime_nsec()), (after.mtime_nsec(), after.ctime_nsec()));
    let second = sender.final_tree(0, root).await.unwrap();
    assert_eq!(second.bytes, BLOCK);
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert_eq!(fs::read(pair.at("there/mapped")).unwrap(), fs::read(&path).unwrap());
    // SAFETY: the mapping made above, which is used no more.
    unsafe { libc::munmap(map, length) };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_file_stays_sparse_whatever_becomes_of_it() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let root = Root::whole(&pair.at("upper"));
    let path = pair.at("upper/sparse");
    let mut file = File::create(&path).unwrap();
    file.seek(SeekFrom::Start(256 << 20)).unwrap();
    file.write_all(&noise(5000, 2)).unwrap();
    file.set_len(300 << 20).unwrap();
    let (mut receiver, mut sender) = pair.start().await;
    let first = sender.precopy_tree(0, root.clone()).await.unwrap();
    assert!(first.bytes <= BLOCK, "{first:?}");
    // Zeros over the data, other data elsewhere, and a shorter end.
    file.write_all_at(&vec![0; 5000], 256 << 20).unwrap();
    file.write_all_at(b"here", 7 << 20).unwrap();
    file.set_len(260 << 20).unwrap();
    sender.final_tree(0, root).await.unwrap();
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    let there = fs::metadata(pair.at("there/sparse")).unwrap();
    assert_eq!(there.len(), 260 << 20);
    assert!(there.blocks() * 512 <= 64 << 10, "{} bytes on the disk", there.blocks() * 512);
    let mut bytes = [0; 4];
    let copy = File::open(pair.at("there/sparse")).unwrap();
    copy.read_exact_at(&mut bytes, 7 << 20).unwrap();
    assert_eq!(&bytes, b"here");
    copy.read_exact_at(&mut bytes, 256 << 20).unwrap();
    assert_eq!(bytes, [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_trees_arrive_and_one_of_named_files_leaves_all_else_alone() {
    let pair = Pair::new(TransportKind::Tcp).await;
    for name in ["files", "files-there", "volume", "volume-there"] {
        fs::create_dir(pair.at(name)).unwrap();
    }
    for name in ["hosts", "resolv.conf", "secret"] {
        fs::write(pair.at("files").join(name), name).unwrap();
    }
    fs::write(pair.at("files-there/config.json"), "its own").unwrap();
    fs::write(pair.at("files-there/ctr.log"), "of before").unwrap();
    fs::write(pair.at("volume/data"), "1").unwrap();
    fs::write(pair.at("volume-there/stale"), "1").unwrap();
    let only = || Some(["hosts", "resolv.conf", "ctr.log"].map(Into::into).to_vec());
    let folders = mose_transfer::Folders {
        trees: vec![
            TreeFolder::whole(pair.at("there")),
            TreeFolder { path: pair.at("files-there"), only: only() },
            TreeFolder::whole(pair.at("volume-there")),
        ],
        ..pair.folders()
    };
    let (mut receiver, offer) = pair.open_into(folders.clone()).await;
    let mut sender = pair.try_connect(&offer).await.unwrap();
    let named = Root { only: only(), ..Root::whole(&pair.at("files")) };
    sender.precopy_tree(1, named.clone()).await.unwrap();
    sender.precopy_tree(2, Root::whole(&pair.at("volume"))).await.unwrap();
    fs::write(pair.at("files/hosts"), "changed").unwrap();
    sender.final_tree(2, Root::whole(&pair.at("volume"))).await.unwrap();
    sender.final_tree(1, named).await.unwrap();
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    let names = |folder: &str| {
        let mut names: Vec<_> =
            fs::read_dir(pair.at(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("files-there"), ["config.json", "hosts", "resolv.conf"]);
    assert_eq!(fs::read(pair.at("files-there/hosts")).unwrap(), b"changed");
    assert_eq!(names("volume-there"), ["data"]);

    // A source that sends more than is expected of the named files is refused.
    fs::remove_dir_all(pair.at("checkpoint")).unwrap();
    let (mut receiver, offer) = pair.open_into(folders).await;
    let mut sender = pair.try_connect(&offer).await.unwrap();
    drop(sender.final_tree(1, Root::whole(&pair.at("files"))).await);
    assert!(sender.finish().await.is_err());
    let refused = receiver.finished().await.unwrap_err().to_string();
    assert!(refused.contains("does not belong"), "{refused}");
    assert!(!Path::new(&pair.at("files-there/secret")).exists());
}

/// One change of a file.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Zeros(u64, u64),
    Resize(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..6 * BLOCK;
    prop_oneof![
        (at.clone(), proptest::collection::vec(any::<u8>(), 1..9000))
            .prop_map(|(at, b)| Change::Write(at, b)),
        (at.clone(), 1..3 * BLOCK).prop_map(|(at, count)| Change::Zeros(at, count)),
        at.prop_map(Change::Resize),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_file_is_the_same_after_any_changes_in_any_number_of_passes(
        rounds in proptest::collection::vec(proptest::collection::vec(change(), 0..4), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let pair = Pair::new(TransportKind::Tcp).await;
            let root = Root { reread: Reread::All, ..Root::whole(&pair.at("upper")) };
            let file = File::create(pair.at("upper/file")).unwrap();
            let (mut receiver, mut sender) = pair.start().await;
            for changes in rounds {
                sender.precopy_tree(0, root.clone()).await.unwrap();
                for change in changes {
                    match change {
                        Change::Write(at, bytes) => file.write_all_at(&bytes, at).unwrap(),
                        Change::Zeros(at, count) => file.write_all_at(&vec![0; count as usize], at).unwrap(),
                        Change::Resize(size) => file.set_len(size).unwrap(),
                    }
                }
            }
            sender.final_tree(0, root).await.unwrap();
            sender.finish().await.unwrap();
            receiver.finished().await.unwrap();
            assert_eq!(fs::read(pair.at("there/file")).unwrap(), fs::read(pair.at("upper/file")).unwrap());
        });
    }
}
