//! What no hand-over of ours moves, said before anything is touched.

use mose_protocol::{Refusal, RefusalCode};
use serde_json::Value;

use super::{elements, text};

/// The refusal of a container that cannot be moved as it is.
fn unmovable(name: &str, reason: &str, remedy: &str) -> Refusal {
    Refusal::new(RefusalCode::Unmovable, format!("{name} cannot be moved: {reason}"), remedy)
}

/// Refuses a container that cannot be moved as it is, by Podman's inspection of it and libpod's own configuration.
pub(in super::super) fn check(name: &str, inspect: &Value, config: &Value) -> Result<(), Refusal> {
    let refuse = |reason: &str, remedy: &str| Err(unmovable(name, reason, remedy));
    if inspect["Pod"].as_str().is_some_and(|pod| !pod.is_empty()) {
        return refuse("it belongs to a pod", "run it outside a pod");
    }
    if inspect["Rootfs"].as_str().is_some_and(|rootfs| !rootfs.is_empty()) {
        return refuse("it runs from a folder, not from an image", "import the folder as an image");
    }
    if let Some(dependency) = elements(&inspect["Dependencies"]).first() {
        return refuse(
            &format!("it depends on the container {}, which stays", text(dependency)),
            "run it without --requires",
        );
    }
    namespaces(name, inspect, config)?;
    storage(name, inspect, config)?;
    if config["noCgroups"] == true {
        return refuse(
            "it has no cgroup (--cgroups), and could not be frozen",
            "run it with --cgroups=enabled",
        );
    }
    let default_log = inspect["StaticDir"].as_str().map(|folder| format!("{folder}/ctr.log"));
    let log = config["logPath"].as_str().filter(|path| !path.is_empty());
    if log.is_some() && log != default_log.as_deref() {
        return refuse(
            &format!("its log is kept in {}, a path that Podman does not take over", log.unwrap_or_default()),
            "run it without --log-opt path",
        );
    }
    if config["logDriver"].as_str().is_some_and(|driver| driver.starts_with("passthrough")) {
        return refuse(
            "its output goes to whoever started it (--log-driver passthrough), who stays",
            "run it with --log-driver k8s-file",
        );
    }
    if config["preserveFds"].as_u64().is_some_and(|fds| fds > 0)
        || !elements(&config["preserveFd"]).is_empty()
    {
        return refuse(
            "it holds file descriptors of whoever started it (--preserve-fds), who stays",
            "run it without --preserve-fds and --preserve-fd",
        );
    }
    Ok(())
}

/// Namespaces that are somebody else's, or in which ids mean something else.
fn namespaces(name: &str, inspect: &Value, config: &Value) -> Result<(), Refusal> {
    if !elements(&config["idMappingsOptions"]["UIDMap"]).is_empty() {
        return Err(unmovable(
            name,
            "it has a user namespace, in which ids mean what this host says",
            "run it without --userns, --uidmap and --gidmap",
        ));
    }
    for mode in ["PidMode", "IpcMode", "UTSMode", "UsernsMode"] {
        let value = inspect["HostConfig"][mode].as_str().unwrap_or_default();
        if value == "host" || value.starts_with("container:") || value.starts_with("ns:") {
            return Err(unmovable(
                name,
                &format!("its {mode} is `{value}`, and that namespace cannot follow it"),
                "run it with namespaces of its own",
            ));
        }
    }
    // On cgroup v1 the host's is what every container has.
    let cgroup = inspect["HostConfig"]["CgroupMode"].as_str().unwrap_or_default();
    if cgroup.starts_with("container:") || cgroup.starts_with("ns:") {
        return Err(unmovable(
            name,
            &format!("its cgroup namespace is `{cgroup}`, which cannot follow it"),
            "run it with --cgroupns=private",
        ));
    }
    Ok(())
}

/// Devices, and mounts of what the destination does not have.
fn storage(name: &str, inspect: &Value, config: &Value) -> Result<(), Refusal> {
    if let Some(device) = elements(&inspect["HostConfig"]["Devices"]).first() {
        return Err(unmovable(
            name,
            &format!("it uses the device {}", text(&device["PathOnHost"])),
            "devices stay on their host; run it without",
        ));
    }
    let kinds = [
        ("overlayVolumes", "dest", "an overlay over a folder of this host", "mount it without :O"),
        ("ctrImageVolumes", "dest", "an image", "copy the files into its own image"),
        ("artifactVolumes", "dest", "an artifact", "copy the files into its own image"),
    ];
    for (field, destination, what, remedy) in kinds {
        if let Some(mount) = elements(&config[field]).first() {
            let reason = format!("{what} is mounted on {}", text(&mount[destination]));
            return Err(unmovable(name, &reason, remedy));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inspect() -> Value {
        json!({
            "StaticDir": "/c/userdata",
            "HostConfig": {"PidMode": "private", "IpcMode": "shareable"},
            "Mounts": [],
        })
    }

    fn config() -> Value {
        json!({"logPath": "/c/userdata/ctr.log", "logDriver": "k8s-file"})
    }

    #[test]
    fn a_plain_container_can_be_moved() {
        check("x", &inspect(), &config()).unwrap();
        check("x", &inspect(), &json!({"logDriver": "journald", "logPath": ""})).unwrap();
    }

    #[test]
    fn what_cannot_follow_is_refused_by_name_with_a_remedy() {
        let inspected = [
            ("/Pod", json!("p"), "pod"),
            ("/Rootfs", json!("/r"), "folder"),
            ("/Dependencies", json!(["other"]), "other"),
            ("/HostConfig/PidMode", json!("host"), "PidMode"),
            ("/HostConfig/Devices", json!([{"PathOnHost": "/dev/fuse"}]), "/dev/fuse"),
        ];
        for (pointer, value, says) in inspected {
            let mut inspect = inspect();
            set(&mut inspect, pointer, value);
            refused(check("x", &inspect, &config()), says);
        }
        let configured = [
            ("/overlayVolumes", json!([{"dest": "/o"}]), "/o"),
            ("/ctrImageVolumes", json!([{"dest": "/i"}]), "/i"),
            ("/noCgroups", json!(true), "cgroup"),
            ("/logPath", json!("/var/log/x"), "/var/log/x"),
            ("/logDriver", json!("passthrough-tty"), "passthrough"),
            ("/preserveFds", json!(2), "--preserve-fds"),
            ("/idMappingsOptions", json!({"UIDMap": [{"container_id": 0}]}), "user namespace"),
        ];
        for (pointer, value, says) in configured {
            let mut config = config();
            set(&mut config, pointer, value);
            refused(check("x", &inspect(), &config), says);
        }
    }

    fn set(value: &mut Value, pointer: &str, to: Value) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = to;
    }

    fn refused(checked: Result<(), Refusal>, says: &str) {
        let refusal = checked.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unmovable);
        assert!(refusal.reason.contains(says) && !refusal.remedy.is_empty(), "{says}: {refusal}");
    }
}
