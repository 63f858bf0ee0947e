//! A container as another host must create it: libpod's `SpecGenerator`, made from what the source's Podman says.
//!
//! No endpoint of libpod gives back the specification that a container was made from, so it is derived; and as
//! a derivation can lose something, the destination compares the OCI runtime configuration that comes of it
//! with the source's own, and refuses what would come back different.

use std::path::Path;

use mose_protocol::{Refusal, RefusalCode};
use serde_json::{Map, Value, json};

/// The refusal of a container that cannot be moved as it is.
fn unmovable(name: &str, reason: &str, remedy: &str) -> Refusal {
    Refusal::new(RefusalCode::Unmovable, format!("{name} cannot be moved: {reason}"), remedy)
}

/// The description of a container: `{spec, runtime}`, from `inspect` and its OCI `config.json`.
pub(super) fn describe(name: &str, inspect: &Value, runtime: &Value) -> Result<Value, Refusal> {
    check(name, inspect)?;
    let config = &inspect["Config"];
    let host = &inspect["HostConfig"];
    let mut spec = json!({
        "name": name,
        "image": inspect["Image"],
        "raw_image_name": inspect["ImageName"],
        "hostname": config["Hostname"],
        "env": env(&config["Env"]),
        "labels": object(&config["Labels"]),
        "annotations": annotations(&config["Annotations"]),
        "terminal": config["Tty"],
        "stdin": config["OpenStdin"],
        "user": config["User"],
        "work_dir": config["WorkingDir"],
        "image_volume_mode": "ignore",
        "systemd": if config["SystemdMode"] == true { "always" } else { "false" },
        "container_create_command": array(&config["CreateCommand"]),
        "stop_timeout": config["StopTimeout"],
        "restart_policy": host["RestartPolicy"]["Name"],
        "log_configuration": { "driver": host["LogConfig"]["Type"] },
        "netns": { "nsmode": "path", "value": netns(inspect).unwrap_or_default() },
        "privileged": host["Privileged"],
        "cap_add": array(&host["CapAdd"]),
        "cap_drop": array(&host["CapDrop"]),
        "read_only_filesystem": host["ReadonlyRootfs"],
        "init": host["Init"],
        "shm_size": host["ShmSize"],
        "rlimits": rlimits(runtime),
        "sysctl": object(&runtime["linux"]["sysctl"]),
        "resource_limits": resources(&runtime["linux"]["resources"]),
        "mounts": mounts(inspect),
        "groups": array(&host["GroupAdd"]),
    });
    if let Value::Object(spec) = &mut spec {
        // An empty entrypoint must be said as [""], else the image's would come back.
        let entrypoint = match &config["Entrypoint"] {
            Value::Array(words) if !words.is_empty() => config["Entrypoint"].clone(),
            Value::String(words) if !words.is_empty() => json!(words.split(' ').collect::<Vec<_>>()),
            _ => json!([""]),
        };
        spec.insert("entrypoint".into(), entrypoint);
        spec.insert("command".into(), array(&config["Cmd"]));
        if let Some(tries) = host["RestartPolicy"]["MaximumRetryCount"].as_u64().filter(|n| *n > 0) {
            spec.insert("restart_tries".into(), tries.into());
        }
        if let Some(signal) = signal(&config["StopSignal"]) {
            spec.insert("stop_signal".into(), signal.into());
        }
        if let Some(score) = runtime["process"]["oomScoreAdj"].as_i64().filter(|score| *score != 0) {
            spec.insert("oom_score_adj".into(), score.into());
        }
        if config["Healthcheck"].is_object() {
            spec.insert("healthconfig".into(), config["Healthcheck"].clone());
        }
        if runtime["process"]["noNewPrivileges"] == true {
            spec.insert("no_new_privileges".into(), true.into());
        }
        if runtime["linux"]["seccomp"].is_null() {
            spec.insert("seccomp_profile_path".into(), "unconfined".into());
        }
        spec.retain(|_, value| !value.is_null());
    }
    Ok(json!({ "spec": spec, "runtime": essence(runtime) }))
}

/// The network namespace that the container was given by path.
pub(super) fn netns(inspect: &Value) -> Option<&str> {
    inspect["HostConfig"]["NetworkMode"].as_str()?.strip_prefix("ns:")
}

/// What no hand-over of ours moves, said before anything is touched.
fn check(name: &str, inspect: &Value) -> Result<(), Refusal> {
    let host = &inspect["HostConfig"];
    if inspect["Pod"].as_str().is_some_and(|pod| !pod.is_empty()) {
        return Err(unmovable(name, "it belongs to a pod", "run it outside a pod"));
    }
    if inspect["Rootfs"].as_str().is_some_and(|rootfs| !rootfs.is_empty()) {
        return Err(unmovable(
            name,
            "it runs from a folder, not from an image",
            "import the folder as an image",
        ));
    }
    for mode in ["PidMode", "IpcMode", "UTSMode", "UsernsMode"] {
        let value = host[mode].as_str().unwrap_or_default();
        if value == "host" || value.starts_with("container:") || value.starts_with("ns:") {
            return Err(unmovable(
                name,
                &format!("its {mode} is `{value}`, and that namespace cannot follow it"),
                "run it with namespaces of its own",
            ));
        }
    }
    let devices = host["Devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(device) = devices.first() {
        return Err(unmovable(
            name,
            &format!("it uses the device {}", text(&device["PathOnHost"])),
            "devices stay on their host; run it without",
        ));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn array(value: &Value) -> Value {
    if value.is_array() { value.clone() } else { json!([]) }
}

fn object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}

/// `["A=b"]` as `{"A": "b"}`.
fn env(list: &Value) -> Value {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|line| line.as_str()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// The annotations that people gave; the engine writes its own anew.
fn annotations(value: &Value) -> Value {
    let Some(all) = value.as_object() else { return json!({}) };
    all.iter()
        .filter(|(key, _)| !key.starts_with("io.podman.") && !key.starts_with("io.container."))
        .filter(|(key, _)| !key.starts_with("org.opencontainers.image."))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// `RLIMIT_NOFILE` as libpod wants it: `nofile`.
fn rlimits(runtime: &Value) -> Value {
    let Some(all) = runtime["process"]["rlimits"].as_array() else { return json!([]) };
    all.iter()
        .map(|limit| json!({ "type": limit["type"], "hard": limit["hard"], "soft": limit["soft"] }))
        .collect()
}

/// Limits on resources, but not the device rules, which the engine makes itself.
fn resources(value: &Value) -> Value {
    let Some(all) = value.as_object() else { return Value::Null };
    all.iter()
        .filter(|(key, _)| key.as_str() != "devices")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// Bind mounts and tmpfs that people asked for.
fn mounts(inspect: &Value) -> Value {
    let mut mounts = Vec::new();
    for mount in inspect["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if mount["Type"] == "bind" {
            let mut options: Vec<Value> = mount["Options"].as_array().cloned().unwrap_or_default();
            if mount["RW"] == false {
                options.push("ro".into());
            }
            mounts.push(json!({
                "type": "bind", "source": mount["Source"],
                "destination": mount["Destination"], "options": options,
            }));
        }
    }
    if let Some(tmpfs) = inspect["HostConfig"]["Tmpfs"].as_object() {
        for (destination, options) in tmpfs {
            let options: Vec<&str> = text(options).split(',').filter(|o| !o.is_empty()).collect();
            mounts.push(json!({
                "type": "tmpfs", "source": "tmpfs", "destination": destination, "options": options,
            }));
        }
    }
    mounts.into()
}

/// A signal by number; libpod says it as a number in old releases and as a name in new ones.
fn signal(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return (number > 0).then_some(number);
    }
    let name = value.as_str()?;
    let name = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    let signal: nix::sys::signal::Signal = name.parse().ok()?;
    u64::try_from(signal as i32).ok()
}

/// What must come back the same on the other host, out of an OCI runtime configuration.
fn essence(runtime: &Value) -> Value {
    let process = &runtime["process"];
    let linux = &runtime["linux"];
    let mut env: Vec<&str> =
        process["env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    env.sort_unstable();
    let mut mounts: Vec<String> = runtime["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| format!("{} ({})", text(&mount["destination"]), text(&mount["type"])))
        .collect();
    mounts.sort_unstable();
    json!({
        "args": process["args"],
        "environment": env,
        "working folder": process["cwd"],
        "user": process["user"],
        "capabilities": process["capabilities"],
        "rlimits": array(&process["rlimits"]),
        "no new privileges": process["noNewPrivileges"],
        "terminal": process["terminal"],
        "oom score": process["oomScoreAdj"],
        "host name": runtime["hostname"],
        "read-only root": runtime["root"]["readonly"],
        "mounts": mounts,
        "resources": resources(&linux["resources"]),
        "sysctls": object(&linux["sysctl"]),
        "masked paths": linux["maskedPaths"],
        "read-only paths": linux["readonlyPaths"],
        "seccomp": linux["seccomp"],
    })
}

/// In what the container that was created differs from the one described; empty where it does not.
pub(super) fn differences(description: &Value, runtime: &Value) -> Vec<String> {
    let Some(wanted) = description["runtime"].as_object() else {
        return vec!["the description lacks its runtime configuration".into()];
    };
    let found = essence(runtime);
    wanted
        .iter()
        .filter(|(key, value)| &&found[key.as_str()] != value)
        .map(|(key, value)| {
            format!("{key}: {} instead of {}", shortened(&found[key.as_str()]), shortened(value))
        })
        .collect()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 300 { text } else { text.chars().take(300).chain("…".chars()).collect() }
}

/// The OCI runtime configuration that libpod wrote for a container.
pub(super) fn runtime_config(path: &Path) -> Result<Value, Refusal> {
    let refusal = |reason: String| {
        Refusal::new(
            RefusalCode::Engine,
            format!("the container's runtime configuration {} {reason}", path.display()),
            "the agent must run on the same host, and as the same user, as its Podman",
        )
    };
    let bytes = std::fs::read(path).map_err(|error| refusal(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| refusal(format!("is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect() -> Value {
        json!({
            "Image": "sha256:1", "ImageName": "localhost/x",
            "Config": {
                "Hostname": "h", "Env": ["A=b=c", "D="], "Labels": {"l": "1"}, "Tty": false,
                "OpenStdin": false, "User": "7", "WorkingDir": "/", "Entrypoint": [], "Cmd": ["run"],
                "StopSignal": "SIGTERM", "StopTimeout": 10,
                "Annotations": {"io.podman.annotations.x": "1", "mine": "2"},
            },
            "HostConfig": {
                "NetworkMode": "ns:/run/netns/x", "PidMode": "private", "IpcMode": "shareable",
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            },
            "Mounts": [],
        })
    }

    #[test]
    fn what_people_asked_for_survives_the_description() {
        let runtime = json!({"linux": {"resources": {"memory": {"limit": 5}, "devices": [1]}}});
        let description = describe("x", &inspect(), &runtime).unwrap();
        let spec = &description["spec"];
        assert_eq!(spec["env"], json!({"A": "b=c", "D": ""}));
        assert_eq!(spec["labels"], json!({"l": "1"}));
        assert_eq!(spec["annotations"], json!({"mine": "2"}));
        assert_eq!(spec["restart_policy"], "on-failure");
        assert_eq!(spec["restart_tries"], 3);
        assert_eq!(spec["stop_signal"], 15);
        assert_eq!(spec["entrypoint"], json!([""]));
        assert_eq!(spec["resource_limits"], json!({"memory": {"limit": 5}}));
        assert_eq!(spec["netns"]["value"], "/run/netns/x");
    }

    #[test]
    fn what_cannot_follow_is_refused_by_name() {
        let mut host = inspect();
        host["HostConfig"]["PidMode"] = "host".into();
        assert!(describe("x", &host, &json!({})).unwrap_err().reason.contains("PidMode"));
    }

    #[test]
    fn a_container_that_came_out_different_is_seen() {
        let runtime = json!({"process": {"args": ["a"], "env": ["B=1", "A=1"]}});
        let description = describe("x", &inspect(), &runtime).unwrap();
        let same = json!({"process": {"args": ["a"], "env": ["A=1", "B=1"]}});
        assert_eq!(differences(&description, &same), Vec::<String>::new());
        let other = json!({"process": {"args": ["b"], "env": ["A=1", "B=1"]}});
        assert_eq!(differences(&description, &other), vec![r#"args: ["b"] instead of ["a"]"#]);
    }
}
