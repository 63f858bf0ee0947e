//! What every guest boots from: an ext4 image of the lab's root file system with the kernel's modules, and an initrd that mounts
//! it. Made once per root file system and kernel, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::cache;
use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::files::write_file;
use crate::guest::tools::Tools;
use crate::run::{machine_program, run};

const PREFIX: &str = "guest-boot";
/// The size of the image as the guest sees it. The file is sparse.
const SIZE: &str = "3G";

/// Makes the image and the initrd, in mounts that nobody else sees.
/// `$1`: work folder, `$2`: root file system, `$3`: the tools' tree, `$4`: kernel version, `$5`: the initrd's `/init`, `$6`: its
/// size; what comes after: the command line of mke2fs.
const MAKE: &str = r#"set -e
work="$1" rootfs="$2" tools="$3" kernel="$4" init="$5" size="$6"; shift 6
busybox="$tools/usr/bin/busybox"
mount -t tmpfs none "$work/mnt"
mkdir "$work/mnt/upper" "$work/mnt/work" "$work/mnt/root"
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$work/mnt/upper,workdir=$work/mnt/work" "$work/mnt/root"
root="$work/mnt/root"
cp -a "$tools/usr/lib/modules" "$root/usr/lib/"
chroot "$root" depmod "$kernel"
# Podman asks dpkg for the package of each of its parts, which takes long where code is translated.
rm -rf "$root/var/lib/dpkg/info"
"$@" -q -t ext4 -m 0 -O ^has_journal -d "$root" "$work/out/root.ext4" "$size"
i="$work/mnt/initrd"
mkdir -p "$i/dev" "$i/bin" "$i/modules"
mknod "$i/dev/console" c 5 1
cp "$busybox" "$i/bin/busybox"
cp "$init" "$i/init"
chmod 755 "$i/init"
number=100
for module in $(chroot "$root" sh -c "for m in virtio_pci virtio_blk ext4 overlay; do modprobe -S $kernel --show-depends \$m; done" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
    name="$(basename "${module%.ko*}")"
    case "$module" in
        *.xz) "$busybox" unxz -c "$root$module" ;;
        *) cat "$root$module" ;;
    esac >"$i/modules/$number-$name.ko"
    number=$((number + 1))
done
cd "$i"
find . | "$busybox" cpio -o -H newc >"$work/out/initrd" 2>/dev/null
"#;

/// The initrd's `/init`: the one disk as the root file system, read-only, and over it what the other one holds. With `probe`
/// on the kernel's command line it only says that it lives.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /lower /scratch /root
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
stty -F /dev/ttyS2 raw -echo
echo booted >/dev/ttyS2
if grep -qw mose.probe /proc/cmdline; then
    stty -F /dev/ttyS2 raw -echo
    poweroff -f
fi
set -e
for module in /modules/*.ko; do insmod "$module"; done
wait_for() { n=0; until [ -b "$1" ]; do n=$((n + 1)); [ $n -lt 300 ]; sleep 0.1; done; }
wait_for /dev/vda
wait_for /dev/vdb
mount -t ext4 -o ro /dev/vda /lower
mount -t ext4 /dev/vdb /scratch
mkdir -p /scratch/upper /scratch/work /scratch/real
mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work overlay /root
# Folders that an overlay is to have as its upper layer must not lie on one themselves.
for folder in $(cat /scratch/real-folders); do
    mkdir -p "/scratch/real$folder" "/root$folder"
    mount -o bind "/scratch/real$folder" "/root$folder"
done
rootfs="$(cat /scratch/rootfs)"
mkdir -p "/root$rootfs"
mount -o move /lower "/root$rootfs"
umount /proc
exec switch_root /root /usr/lib/mose-guest/init
"#;

/// The image and the initrd.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    /// An ext4 file system, to be read only.
    pub(crate) root: PathBuf,
    /// The initrd.
    pub(crate) initrd: PathBuf,
}

impl Boot {
    /// Makes sure both are in the cache.
    pub(crate) fn ensure(
        config: &LabConfig,
        tools: &Tools,
        rootfs: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Boot, LabError> {
        let mut hash = Xxh3::new();
        for path in [&tools.tree, rootfs] {
            hash.update(path.as_os_str().as_encoded_bytes());
        }
        for text in [MAKE, INIT, SIZE, &tools.kernel] {
            hash.update(text.as_bytes());
        }
        let folder = cache::ensure(&config.cache_dir, PREFIX, hash.digest(), 2, |building| {
            progress("making the guest's root file system (once, some seconds)");
            let (out, init) = (building.join("out"), building.join("init"));
            for folder in [&out, &building.join("mnt")] {
                fs::create_dir_all(folder).on("make", folder)?;
            }
            write_file(&init, 0o755, INIT)?;
            let mke2fs = tools.program("usr/sbin/mke2fs");
            let mut command = machine_program("setpriv");
            command
                .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
                .args(["--pid", "--fork", "--kill-child", "sh", "-c", MAKE, "sh"])
                .args([building, rootfs, &tools.tree])
                .arg(&tools.kernel)
                .arg(&init)
                .arg(SIZE)
                .arg(mke2fs.get_program())
                .args(mke2fs.get_args());
            run("making the guest's root file system", &mut command)?;
            Ok(out)
        })?;
        Ok(Boot { root: folder.join("root.ext4"), initrd: folder.join("initrd") })
    }
}
